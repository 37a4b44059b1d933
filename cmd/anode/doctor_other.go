//go:build !linux

package main

import "anodenet/anode"

// examineSystem has nothing to look at that the daemon would not say itself.
func examineSystem() []finding { return nil }

func takesSource(anode.ULA) (bool, error) { return false, nil }
