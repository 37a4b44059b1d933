package main

// The linker sets these (-X main.buildVersion=...; see build in scripts/common.sh). They
// are empty in a program that plain "go build" made.
var (
	buildVersion string // as git describe --tags --always --dirty prints it
	buildCommit  string // the full hash
	buildDate    string // of the commit, RFC 3339, UTC: two builds of one commit are equal
)
