//go:build !race

package repo

// raceDetector says whether memory and time are those of the race detector, and measuring them means nothing.
const raceDetector = false
