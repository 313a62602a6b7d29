package main

// harden does nothing: Windows leaves no core files, and files inherit the permissions of their directory.
func harden() {}
