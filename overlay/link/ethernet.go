package link

import (
	"encoding/binary"
	"errors"
	"slices"

	"anodenet/anode/wire"
)

// Over Ethernet each packet is one frame (draft 2.9.1), of the EtherType for local experiments. A
// length is in front, since short frames are padded:
//
//	length[2] packet[length] padding
//
// It needs no IP address, and sees nothing but frames of this type.
const (
	etherType = 0x88b5

	// EthernetHeader is what a frame holds beside the packet, of the interface's MTU.
	EthernetHeader = 2

	etherBatch = 32 // frames that are read at a time
)

// ErrNoEthernet says that the system has no Ethernet for us.
var ErrNoEthernet = errors.New("ethernet: not available on this system; try: Linux, or leave link.ethernet empty")

// ErrEthernetRights says that a capability is missing.
var ErrEthernetRights = errors.New("ethernet: no permission to send and receive frames (CAP_NET_RAW is missing); " +
	"try: give the service AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW, or leave link.ethernet empty")

// cutEthernet returns the packet in a frame.
func cutEthernet(frame []byte) (packet []byte, ok bool) {
	if len(frame) < EthernetHeader {
		return nil, false
	}
	n := int(binary.BigEndian.Uint16(frame))
	if frame = frame[EthernetHeader:]; n < wire.MinPacket || n > len(frame) {
		return nil, false
	}
	return frame[:n:n], true
}

// etherFrame is a frame that was read.
type etherFrame struct {
	size int // bytes; 0: it is not for us
	from [6]byte
}

// etherTrains makes trains of frames that were read into buf, each stride bytes after the last one,
// in place: consecutive packets of one length from one sender move together. bad is how many were
// none of ours.
func etherTrains(ts []Train, buf []byte, stride int, frames []etherFrame, index int) (out []Train, bad int) {
	w := 0 // where the next packet goes
	open := -1
	for i, f := range frames {
		at := buf[i*stride:]
		p, ok := cutEthernet(at[:min(f.size, stride, len(at))])
		if !ok || f.from[0]&1 != 0 { // nobody's own address is a group's
			bad++
			continue
		}
		w += copy(buf[w:], p)
		if open == i-1 && len(ts) > 0 {
			if t := &ts[len(ts)-1]; t.Endpoint.MAC() == f.from && len(p) <= t.Size && len(t.Buf)+len(p) <= MaxTrain {
				t.Buf = t.Buf[:len(t.Buf)+len(p)]
				if len(p) == t.Size {
					open = i
				}
				continue
			}
		}
		ts = append(ts, Train{Buf: buf[w-len(p) : w : len(buf)], Size: len(p), Endpoint: AtMAC(f.from, index)})
		open = i
	}
	return ts, bad
}

// etherPort is an interface with a socket for our frames.
type etherPort interface {
	outlet
	// read hands over what comes, until the port is closed or broken.
	read()
	// serves reports whether it is still the right one for an interface.
	serves(i *Interface) bool
	mac() [6]byte
}

// ethernet is what a Mux has of Ethernet.
type ethernet struct {
	names  []string          // of the interfaces that are wanted
	ports  map[int]etherPort // that are open, by index of the interface
	absent map[string]bool   // names of which the log says that they cannot be used
}

// OpenEthernet has packets travel in frames of the named interfaces, whenever they are fit for
// beacons: see Links. Its error is ErrNoEthernet or ErrEthernetRights, or says why there are no
// sockets.
func (m *Mux) OpenEthernet(names []string) error {
	if len(names) == 0 {
		return nil
	}
	if err := CheckEthernet(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ether.names = slices.Clone(names)
	return nil
}

// Links opens and closes what OpenEthernet wants, now that the links' state is another one.
// Interfaces that are down, tunnels, our own adapter and members of bridges are not among those
// of a state, and not used.
func (m *Mux) Links(s State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := &m.ether
	if len(e.names) == 0 || m.ctx.Err() != nil {
		return
	}
	there := make(map[int]*Interface)
	for i := range s.Interfaces {
		if slices.Contains(e.names, s.Interfaces[i].Name) {
			there[s.Interfaces[i].Index] = &s.Interfaces[i]
		}
	}
	for index, p := range e.ports {
		if i := there[index]; i == nil || !p.serves(i) {
			p.close()
			delete(e.ports, index)
		}
	}
	for index, i := range there {
		if e.ports[index] == nil {
			m.openPort(i)
		}
	}
	m.reportAbsent(there)
}

// openPort opens an interface. m.mu is held.
func (m *Mux) openPort(i *Interface) {
	p, err := newEtherPort(m, i)
	if err != nil {
		m.cfg.Log.Warn("no Ethernet", "interface", i.Name, "err", err)
		return
	}
	if m.ether.ports == nil {
		m.ether.ports = make(map[int]etherPort)
	}
	m.ether.ports[i.Index] = p
	m.cfg.Log.Info("Ethernet", "interface", i.Name, "mtu", i.MTU)
	index := i.Index
	m.running.Go(func() {
		p.read()
		p.close()
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.ether.ports[index] == p {
			delete(m.ether.ports, index)
		}
	})
}

// reportAbsent logs once which of the wanted interfaces cannot be used. m.mu is held.
func (m *Mux) reportAbsent(there map[int]*Interface) {
	e := &m.ether
	absent := make(map[string]bool)
	for _, name := range e.names {
		absent[name] = true
	}
	for _, i := range there {
		delete(absent, i.Name)
	}
	for name := range absent {
		if !e.absent[name] {
			m.cfg.Log.Warn("no Ethernet until the interface is up: it must exist, have a carrier, and be no tunnel and no member of a bridge", "interface", name)
		}
	}
	e.absent = absent
}

// Broadcasts returns the endpoints that mean everyone on the Ethernets that are open. Local is the
// link-local address of our MAC there, at which others see what we send.
func (m *Mux) Broadcasts() (list []Endpoint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for index, p := range m.ether.ports {
		ep := AtMAC([6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, index)
		ep.Local = AtMAC(p.mac(), index).Addr.Addr()
		list = append(list, ep)
	}
	return list
}

// ownMAC reports whether a frame came from one of our own ports. It is called by ports.
func (m *Mux) ownMAC(mac [6]byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.ether.ports {
		if p.mac() == mac {
			return true
		}
	}
	return false
}
