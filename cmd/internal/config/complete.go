package config

import "strings"

// Key is a key of the configuration, and what it is for in one line.
type Key struct{ Name, Doc string }

// Keys lists all keys in the order of the example.
func Keys() (list []Key) {
	c := Default()
	for _, k := range c.keys() {
		list = append(list, Key{k.name, strings.Join(strings.Fields(k.doc), " ")})
	}
	return list
}
