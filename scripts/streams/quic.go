//go:build ignore

// Command quic is both ends of a stream of quic-go. It is built in a module of its own, with
// copy.go, by scripts/bench-streams:
//
//	serve ADDRESS
//	send ADDRESS
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"os"

	"github.com/quic-go/quic-go"
)

const protocol = "bench"

func main() {
	if err := start(map[string]func(context.Context, job) error{"serve": serve, "send": send}); err != nil {
		fmt.Fprintln(os.Stderr, "quic:", err)
		os.Exit(1)
	}
}

// config lets windows grow to 64 MiB, as those of streams do; the default ends at 6 MiB.
func config() *quic.Config {
	return &quic.Config{InitialStreamReceiveWindow: 8 << 20, MaxStreamReceiveWindow: 64 << 20,
		InitialConnectionReceiveWindow: 8 << 20, MaxConnectionReceiveWindow: 96 << 20}
}

func serve(ctx context.Context, j job) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1)}
	c, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return err
	}
	l, err := quic.ListenAddr(j.arg(0), &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{c}, PrivateKey: key}}, NextProtos: []string{protocol}}, config())
	if err != nil {
		return err
	}
	defer l.Close()
	for {
		q, err := l.Accept(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		s, err := q.AcceptStream(ctx)
		if err != nil {
			continue
		}
		if err := count(s); err != nil {
			fmt.Fprintln(os.Stderr, "a connection failed:", err)
		}
	}
}

// half is a stream, of which Close ends only what is sent.
type half struct{ *quic.Stream }

func (h half) CloseWrite() error { return h.Stream.Close() }

func send(ctx context.Context, j job) (err error) {
	q, err := quic.DialAddr(ctx, j.arg(0), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}, config())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.CloseWithError(0, "")) }()
	s, err := q.OpenStreamSync(ctx)
	if err != nil {
		return err
	}
	return j.send(half{s})
}
