module modelfile

go 1.19
