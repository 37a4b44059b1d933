//go:build !linux

package main

import "anodenet/anode"

// examineSystem checks nothing here: the daemon itself reports what it misses.
func examineSystem() []finding { return nil }

func takesSource(anode.ULA) (bool, error) { return false, nil }
