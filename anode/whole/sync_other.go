//go:build !unix

package whole

// SyncDir has nothing to do: directories cannot be written to the disk by themselves.
func SyncDir(string) error { return nil }
