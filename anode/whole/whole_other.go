//go:build !linux

package whole

var places = []placer{link, claim}
