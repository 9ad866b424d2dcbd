module snapd

go 1.26
