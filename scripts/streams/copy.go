//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A job is what one call of a program does: it serves, or sends and prints what that took.
type job struct {
	size int64  // bytes to send
	pids string // other processes that take part, separated by commas
	args []string
}

// start reads the command line, [-size BYTES] [-pids PID,...] [-cpuprofile FILE] ROLE ARGUMENT...,
// and does the job of that role until it is done or SIGTERM comes.
func start(roles map[string]func(context.Context, job) error) error {
	var j job
	flag.Int64Var(&j.size, "size", 1<<20, "bytes to send")
	flag.StringVar(&j.pids, "pids", "", "other processes whose CPU time counts")
	profile := flag.String("cpuprofile", "", "write a CPU profile to this file")
	flag.Parse()
	role, ok := roles[flag.Arg(0)]
	if !ok {
		return fmt.Errorf("unknown role %q", flag.Arg(0))
	}
	j.args = flag.Args()[1:]
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	return role(ctx, j)
}

// arg returns an argument, or "" if there are fewer.
func (j *job) arg(i int) string {
	if i < len(j.args) {
		return j.args[i]
	}
	return ""
}

// A halfCloser is a connection whose two directions end apart.
type halfCloser interface {
	io.ReadWriteCloser
	CloseWrite() error
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// send copies zeros into a connection, waits until the other end says that it has them all, and
// prints rate and CPU time. The short ways that some connections have for io.Copy are hidden: all
// are given 32 KiB at a time.
func (j *job) send(c halfCloser) error {
	before, err := used(j.pids)
	if err != nil {
		return err
	}
	if _, err := io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{io.LimitReader(zeros{}, j.size)}); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	count, err := io.ReadAll(c)
	if err != nil {
		return err
	}
	if string(count) != strconv.FormatInt(j.size, 10) {
		return fmt.Errorf("sent %d bytes, and %q arrived", j.size, count)
	}
	after, err := used(j.pids)
	if err != nil {
		return err
	}
	took, gb := after.at.Sub(before.at).Seconds(), float64(j.size)/1e9
	fmt.Printf("{\"mbps\": %.3f, \"seconds\": %.3f, \"cpu_s_per_gb\": %.3f, \"machine_s_per_gb\": %.3f}\n",
		gb*8e3/took, took, (after.processes-before.processes)/gb, (after.machine-before.machine)/gb)
	return nil
}

// take takes one connection after the other until ctx ends, and tells each how many bytes came.
func take(ctx context.Context, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := count(c); err != nil {
			fmt.Fprintln(os.Stderr, "a connection failed:", err)
		}
	}
}

// count reads a connection to its end and answers with the number of bytes.
func count(c io.ReadWriteCloser) error {
	n, err := io.Copy(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c})
	if err == nil {
		_, err = fmt.Fprint(c, n)
	}
	if closed := c.Close(); err == nil {
		err = closed
	}
	return err
}

// cpu is CPU time used so far, in seconds.
type cpu struct {
	at        time.Time
	processes float64 // of this process and the others named
	machine   float64 // of all, with what interrupts and threads of the kernel use
}

func used(pids string) (c cpu, err error) {
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return c, err
	}
	c.processes = time.Duration(own.Utime.Nano() + own.Stime.Nano()).Seconds()
	for _, pid := range strings.FieldsFunc(pids, func(r rune) bool { return r == ',' }) {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			return c, err
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		c.processes += ticks(fields[11:13])
	}
	all, err := os.ReadFile("/proc/stat")
	if err != nil {
		return c, err
	}
	fields := strings.Fields(string(all)) // cpu user nice system idle iowait irq softirq
	c.machine = ticks(fields[1:4]) + ticks(fields[6:8])
	c.at = time.Now()
	return c, nil
}

// ticks adds up numbers of hundredths of a second, which Linux shows on all machines.
func ticks(fields []string) (seconds float64) {
	for _, f := range fields {
		n, _ := strconv.ParseFloat(f, 64)
		seconds += n / 100
	}
	return seconds
}
