module provium

go 1.24
