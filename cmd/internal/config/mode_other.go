//go:build !unix

package config

import "io/fs"

// checkMode checks nothing here: file modes do not show access lists.
func checkMode(string, fs.FileInfo) error { return nil }
