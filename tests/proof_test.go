package tests

import "os"

// proof says whether the suites run in their full sizes.
func proof() bool { return os.Getenv("JETSAM_PROOF") != "" }
