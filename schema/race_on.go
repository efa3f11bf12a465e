//go:build race

package schema

// raceEnabled: the race detector maps more memory than any limit allows.
const raceEnabled = true
