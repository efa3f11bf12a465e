package schema

import (
	"cmp"
	"time"
)

// Limits bound what a repository may hold and what reading it may take,
// against mistakes and hostile input. A zero field stands for its default.
type Limits struct {
	FileBytes        int64         // of one file; 1 MiB
	TreeBytes        int64         // of all files; 64 MiB
	Files            int           // 20,000
	EvaluationMemory int64         // bytes; 512 MiB
	EvaluationTime   time.Duration // of all files together; 10 s
}

// maxDepth is how deep folders, and structs and lists in a file, may nest.
const maxDepth = 100

func (l Limits) orDefault() Limits {
	l.FileBytes = cmp.Or(l.FileBytes, 1<<20)
	l.TreeBytes = cmp.Or(l.TreeBytes, 64<<20)
	l.Files = cmp.Or(l.Files, 20000)
	l.EvaluationMemory = cmp.Or(l.EvaluationMemory, 512<<20)
	l.EvaluationTime = cmp.Or(l.EvaluationTime, 10*time.Second)
	return l
}
