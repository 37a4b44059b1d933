package link

// mostConnections is how many connections may be open: here the system sets no bound.
func mostConnections() int { return maxConnections }

// noFiles reports whether an error is that no more files can be opened.
func noFiles(error) bool { return false }
