module provium

go 1.24.0

require (
	github.com/anchore/go-lzo v0.1.1
	github.com/klauspost/compress v1.18.2
	github.com/pierrec/lz4/v4 v4.1.25
	github.com/therootcompany/xz v1.0.1
	github.com/ulikunitz/xz v0.5.17
	golang.org/x/sys v0.36.0
)
