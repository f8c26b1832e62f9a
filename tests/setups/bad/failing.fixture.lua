provium:vm('v', 'host') error('the set-up went wrong')
