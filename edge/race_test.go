//go:build race

package edge

// raceDetector says that the tests run under it, which makes all slower.
const raceDetector = true
