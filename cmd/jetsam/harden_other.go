//go:build unix && !linux

package main

// undumpable does nothing: only Linux can forbid it.
func undumpable() {}
