package schema

import (
	"cmp"
	"time"
)

// Limits bound what a repository may hold and what reading it may take,
// against mistakes and hostile input. A zero field stands for its default.
type Limits struct {
	FileBytes        int64         // of one file; 1 MiB
	TreeBytes        int64         // of all files, each counted under every name that it has; 64 MiB
	Files            int           // files and folders that are looked at; 20,000
	LoadedBytes      int64         // about what the files come to in memory once they are read; 64 MiB
	EvaluationMemory int64         // bytes, of the process that parses and evaluates; 512 MiB
	EvaluationTime   time.Duration // of that process, for all files together; 10 s
}

const (
	// maxDepth is how deep folders, and structs and lists in a file, may nest.
	maxDepth = 100

	// maxPath bounds the path of a field in bytes. Paths are made for every
	// field, so that a long name with many fields in it would be a product of
	// two sizes.
	maxPath = 1024

	// inProcess is how many bytes of files without a known content are parsed
	// in the process that asks: a byte comes to about 300 bytes of memory while
	// it is parsed, at the worst. Of more, the evaluating process takes all.
	inProcess = 64 << 10
)

func (l Limits) orDefault() Limits {
	l.FileBytes = cmp.Or(l.FileBytes, 1<<20)
	l.TreeBytes = cmp.Or(l.TreeBytes, 64<<20)
	l.Files = cmp.Or(l.Files, 20000)
	l.LoadedBytes = cmp.Or(l.LoadedBytes, 64<<20)
	l.EvaluationMemory = cmp.Or(l.EvaluationMemory, 512<<20)
	l.EvaluationTime = cmp.Or(l.EvaluationTime, 10*time.Second)
	return l
}
