// Package files sends files and directories to a peer over a connection, and receives them.
//
// The receiver listens on Port, the sender dials. Both begin with the line "anode files 1".
// Frames follow, in both directions:
//
//	type[1] length[4] payload[length]       numbers are big-endian
//
//	sender                                                receiver
//	OFFER    count[4] bytes[8] id[32]  ----------------->
//	ENTRIES  entry…                    ----------------->  checks names and sizes
//	                                   <-----------------  ALIVE while a person is asked
//	                                   <-----------------  ACCEPT, or REFUSE code[1] text
//	                                   <-----------------  DONE index[4]…  files that are here
//	                                   <-----------------  HAVE index[4] hash[32]…  pieces that are here
//	                                   <-----------------  READY
//	FILE     index[4]                  ----------------->
//	PIECE    hash[32] data             ----------------->  a piece that is missing
//	SKIP     hash[32]                  ----------------->  a piece that the receiver has
//	END      hash[32]                  ----------------->  all pieces were sent: the root of their tree
//	FAILED   text                      ----------------->  instead of END: the file cannot be read
//	                                   <-----------------  GOT bytes[8]  what is written so far
//	OVER                               ----------------->
//	                                   <-----------------  FINISH files[4]
//	BYE                                ----------------->
//
//	entry:   kind[1] mode[2] size[8] mtime[8] path target    path, target: length[2] text
//
// mtime is in nanoseconds since 1970. The id is the SHA-256 of all entries. Both sides send
// ALIVE when they have sent nothing for some seconds.
//
// # Pieces
//
// A piece is 1 MiB, the last one of a file less. Its hash is SHA-256 over a 0 byte and the
// data; the root of a file is the Merkle tree hash of RFC 6962 over them, which is the
// SHA-256 of nothing for an empty file. The receiver writes pieces in order and only after it has
// checked them, so what it has of a file is a beginning of it. After a cut it reads that again,
// and says its hashes: the sender compares them with the file as it is now. The data decides
// what is sent again, and nothing else.
//
// # The receiver's folder
//
// A file is received as NAME.part beside its place. It gets its name when its root was
// checked. The name is never one that exists. A journal, .anode-recv-ID in the folder that
// receives, holds which names were chosen and which files are complete. It has each name
// before a file or directory gets it, so that a receiver that was killed finds them again. One
// process has it open at a time. It is removed when the transfer is over; if the receiver is killed just then,
// the next receiver in the folder removes it, an hour later or more. ID depends on the sender's address and the
// names that it sends, so the same command goes on after any kind of end.
//
// Everything that is opened, made or renamed goes through an os.Root: no name and no symbolic
// link leads out of the folder.
package files

import "time"

// Port is the stream and TCP port on which a receiver listens, at its ULA.
const Port = 26001

// preamble is the first line in both directions.
const preamble = "anode files 1\n"

// Limits of a transfer.
const (
	pieceSize   = 1 << 20
	maxEntries  = 500_000
	maxManifest = 32 << 20 // bytes of all entries
	maxPath     = 4096
	maxName     = 255
	maxDepth    = 128
	maxSize     = 1 << 50
	maxText     = 1000 // bytes of a text that the peer sends for people
)

// Times of a connection.
const (
	aliveEvery = 10 * time.Second // ALIVE
	idleLimit  = 45 * time.Second // without a byte from the other side, or room for one
	offerLimit = 30 * time.Second // for OFFER and ENTRIES, and a second more for each offerRate bytes
	offerRate  = 8 << 10
	byeLimit   = 10 * time.Second
	leaveLimit = 2 * time.Second // of a sender, until the receiver has ended the connection
)
