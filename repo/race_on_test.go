//go:build race

package repo

const raceDetector = true
