package platform

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// guard is a table of nf_tables that ties the overlay's addresses to the adapter, in
// nft(8)'s language (index is the adapter's, group marks the adapters of all nodes of
// this machine):
//
//	table ip6 anode_INDEX {
//		flags owner
//		set peers { type ipv6_addr; elements = { each added peer's ULA } }
//		chain in { type filter hook prerouting priority -300;
//			iif INDEX accept
//			iif lo accept
//			iifgroup GROUP accept
//			ip6 daddr ULA counter name to_us drop
//			ip6 saddr ULA ip6 daddr != ff00::/8 counter name as_us drop
//			ip6 saddr @peers counter name as_peer drop }
//		chain out { type filter hook postrouting priority -300;
//			oif INDEX accept
//			oif lo accept
//			oifgroup GROUP accept
//			ip6 daddr @peers counter name outside drop } }
//
// The kernel removes the table when the socket that made it is closed, so also when the
// process is killed, and lets nobody else change it.
//
// Prerouting comes before connection tracking and the address translation of others:
// what is forged never touches their state, and the addresses are those of the wire.
// Postrouting sees the interface that a packet really leaves by, forwarded or not, after
// everything that may still change its way. What is sent to one of this machine's own
// addresses, such as another node's, comes and goes by lo. A multicast packet that we
// sent comes back by the interface that it left by, hence the exception.
//
// While IPv4 aliases are used, a table ip anode_INDEX does the same for them, and for the
// broadcast of their range, which the kernel would take from any interface.
//
// accept ends this table's chain alone; all others are asked all the same. For a packet
// of the adapter, that is one comparison at each hook.
type guard struct {
	conn   *conn // owns the table
	header ipHeader
	reads  *conn // for the counters: a change may have to wait for those of other programs
	table  string
	has    map[netip.Addr]bool // the set; owned by whoever calls set
}

// The names of what the table holds.
const (
	guardTable = "anode_"
	guardSet   = "peers"
	guardIn    = "in"
	guardOut   = "out"
)

// guardDrops are the counters of dropped packets, and what Counters calls them.
var guardDrops = map[string]string{
	"to_us":   "guard_drop_to_us",   // to our ULA, by another interface
	"as_us":   "guard_drop_as_us",   // from our ULA, by another interface
	"as_peer": "guard_drop_as_peer", // from a peer's ULA, by another interface
	"outside": "guard_drop_outside", // to a peer's ULA, about to leave by another interface
}

// adapterGroup is the group of interfaces (ip link set group) that the adapters of all
// nodes of a machine are in: "anod". A node must not drop the packets of another's.
const adapterGroup = 0x616e6f64

const (
	nftObjectCounter = unix.NFT_OBJECT_COUNTER
	nftOwner         = 2 // NFT_TABLE_F_OWNER, since Linux 5.12

	nftPriority  = -300 // NF_IP6_PRI_RAW
	nftCreate    = unix.NLM_F_CREATE
	elementChunk = 1024 // elements in a message: 28 KB
)

// ipHeader is what the tables of the two families differ in.
type ipHeader struct {
	family              byte
	source, destination uint32 // offsets of the addresses
	size                uint32 // of an address
	keyType             uint32 // of nft(8)
}

// headerOf returns the family that an address has.
func headerOf(a netip.Addr) ipHeader {
	if a.Is4() {
		return ipHeader{unix.NFPROTO_IPV4, 12, 16, 4, 7}
	}
	return ipHeader{unix.NFPROTO_IPV6, 8, 24, 16, 8}
}

// openGuard makes the table of the first address's family with an empty set. The addresses are
// ours: one to send from, and perhaps broadcasts.
func openGuard(index int, own ...netip.Addr) (*guard, error) {
	c, err := dialNetlink(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("nf_tables: %w", err)
	}
	g := &guard{conn: c, header: headerOf(own[0]), table: fmt.Sprint(guardTable, index), has: map[netip.Addr]bool{}}
	err = c.request(func(e *encoder) {
		nftBatch(e, func() { g.messages(e).write(uint32(index), own) })
	}, nil)
	if err == nil {
		g.reads, err = dialNetlink(unix.NETLINK_NETFILTER)
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("nf_tables: %w", err)
	}
	return g, nil
}

func (g *guard) messages(e *encoder) *nftTable { return &nftTable{e, g.table, g.header} }

// set makes the set hold exactly the peers, in one step. One goroutine at a time.
func (g *guard) set(peers map[netip.Addr]bool) error {
	var add, remove []netip.Addr
	for a := range peers {
		if !g.has[a] {
			add = append(add, a)
		}
	}
	for a := range g.has {
		if !peers[a] {
			remove = append(remove, a)
		}
	}
	if len(add)+len(remove) == 0 {
		return nil
	}
	err := g.conn.request(func(e *encoder) {
		t := g.messages(e)
		nftBatch(e, func() {
			t.elements(unix.NFT_MSG_NEWSETELEM, nftCreate, add)
			t.elements(unix.NFT_MSG_DELSETELEM, 0, remove)
		})
	}, nil)
	if err != nil {
		return fmt.Errorf("nf_tables: setting the peers: %w", err)
	}
	g.has = maps.Clone(peers)
	return nil
}

// counters reads how many packets were dropped.
func (g *guard) counters() (map[string]uint64, error) {
	found := map[string]uint64{}
	err := g.reads.dump(func(e *encoder) {
		t := g.messages(e)
		t.message(unix.NFT_MSG_GETOBJ, unix.NLM_F_DUMP, func() {
			e.text(unix.NFTA_OBJ_TABLE, t.name)
			e.big(unix.NFTA_OBJ_TYPE, nftObjectCounter)
		})
	}, func(body []byte) {
		if name, packets, ok := parseCounter(body); ok && guardDrops[name] != "" {
			found[guardDrops[name]] = packets
		}
	})
	return found, err
}

func (g *guard) close() error { return errors.Join(g.conn.close(), g.reads.close()) }

// parseCounter reads the name and the packets of a counter:
//
//	family[1] version[1] resource[2] | name, data { packets[8] }
func parseCounter(b []byte) (name string, packets uint64, ok bool) {
	if len(b) < 4 {
		return "", 0, false
	}
	err := eachAttr(b[4:], func(kind uint16, value []byte) {
		switch {
		case kind == unix.NFTA_OBJ_NAME && len(value) > 0:
			name = string(value[:len(value)-1])
		case kind == unix.NFTA_OBJ_DATA:
			_ = eachAttr(value, func(kind uint16, value []byte) {
				if kind == unix.NFTA_COUNTER_PACKETS && len(value) == 8 {
					packets, ok = binary.BigEndian.Uint64(value), true
				}
			})
		}
	})
	return name, packets, ok && err == nil
}

// nftBatch writes a transaction: all of its messages have an effect, or none. Kernels
// before 6.10 acknowledge each message but the two that enclose it.
func nftBatch(e *encoder, body func()) {
	fixed := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}
	e.message(unix.NFNL_MSG_BATCH_BEGIN, 0, fixed, nil)
	body()
	e.message(unix.NFNL_MSG_BATCH_END, 0, fixed, nil)
}

// nftTable writes messages about a table.
type nftTable struct {
	*encoder
	name string
	ip   ipHeader
}

func (t *nftTable) message(kind, flags uint16, body func()) {
	t.encoder.message(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags|unix.NLM_F_ACK, []byte{t.ip.family, unix.NFNETLINK_V0, 0, 0}, body)
}

// write writes the whole table.
func (t *nftTable) write(index uint32, own []netip.Addr) {
	t.message(unix.NFT_MSG_NEWTABLE, nftCreate|unix.NLM_F_EXCL, func() {
		t.text(unix.NFTA_TABLE_NAME, t.name)
		t.big(unix.NFTA_TABLE_FLAGS, nftOwner)
	})
	t.message(unix.NFT_MSG_NEWSET, nftCreate, func() {
		t.text(unix.NFTA_SET_TABLE, t.name)
		t.text(unix.NFTA_SET_NAME, guardSet)
		t.big(unix.NFTA_SET_FLAGS, 0)
		t.big(unix.NFTA_SET_KEY_TYPE, t.ip.keyType)
		t.big(unix.NFTA_SET_KEY_LEN, t.ip.size)
		t.big(unix.NFTA_SET_ID, 1)
	})
	for _, name := range slices.Sorted(maps.Keys(guardDrops)) {
		t.message(unix.NFT_MSG_NEWOBJ, nftCreate, func() {
			t.text(unix.NFTA_OBJ_TABLE, t.name)
			t.text(unix.NFTA_OBJ_NAME, name)
			t.big(unix.NFTA_OBJ_TYPE, nftObjectCounter)
			t.nest(unix.NFTA_OBJ_DATA, func() {})
		})
	}
	t.chain(guardIn, unix.NF_INET_PRE_ROUTING)
	t.accept(guardIn, unix.NFT_META_IIF, index)
	t.accept(guardIn, unix.NFT_META_IIF, loopbackIndex)
	t.accept(guardIn, unix.NFT_META_IIFGROUP, adapterGroup)
	for _, a := range own {
		t.rule(guardIn, func() {
			t.header(t.ip.destination, t.ip.size)
			t.compare(unix.NFT_CMP_EQ, a.AsSlice())
			t.drop("to_us")
		})
	}
	t.rule(guardIn, func() {
		t.header(t.ip.source, t.ip.size)
		t.compare(unix.NFT_CMP_EQ, own[0].AsSlice())
		t.notGroup()
		t.drop("as_us")
	})
	t.rule(guardIn, func() { t.header(t.ip.source, t.ip.size); t.lookup(); t.drop("as_peer") })
	t.chain(guardOut, unix.NF_INET_POST_ROUTING)
	t.accept(guardOut, unix.NFT_META_OIF, index)
	t.accept(guardOut, unix.NFT_META_OIF, loopbackIndex)
	t.accept(guardOut, unix.NFT_META_OIFGROUP, adapterGroup)
	t.rule(guardOut, func() {
		t.header(t.ip.destination, t.ip.size)
		t.lookup()
		t.drop("outside")
	})
}

// loopbackIndex is the index of lo, in each network namespace.
const loopbackIndex = 1

func (t *nftTable) chain(name string, hook uint32) {
	t.message(unix.NFT_MSG_NEWCHAIN, nftCreate, func() {
		t.text(unix.NFTA_CHAIN_TABLE, t.name)
		t.text(unix.NFTA_CHAIN_NAME, name)
		t.nest(unix.NFTA_CHAIN_HOOK, func() {
			t.big(unix.NFTA_HOOK_HOOKNUM, hook)
			t.big(unix.NFTA_HOOK_PRIORITY, uint32(0x1_0000_0000+nftPriority))
		})
		t.big(unix.NFTA_CHAIN_POLICY, nfAccept)
		t.text(unix.NFTA_CHAIN_TYPE, "filter")
	})
}

// The verdicts of netfilter.
const (
	nfDrop   = 0
	nfAccept = 1
)

// rule writes a rule: expressions that work on register 1, each of which may end it.
func (t *nftTable) rule(chain string, expressions func()) {
	t.message(unix.NFT_MSG_NEWRULE, nftCreate|unix.NLM_F_APPEND, func() {
		t.text(unix.NFTA_RULE_TABLE, t.name)
		t.text(unix.NFTA_RULE_CHAIN, chain)
		t.nest(unix.NFTA_RULE_EXPRESSIONS, expressions)
	})
}

// accept lets through what has a number: an interface's index, or its group.
func (t *nftTable) accept(chain string, key, number uint32) {
	t.rule(chain, func() {
		t.meta(key)
		t.compare(unix.NFT_CMP_EQ, binary.NativeEndian.AppendUint32(nil, number))
		t.verdict(nfAccept)
	})
}

func (t *nftTable) expression(name string, data func()) {
	t.nest(unix.NFTA_LIST_ELEM, func() {
		t.text(unix.NFTA_EXPR_NAME, name)
		t.nest(unix.NFTA_EXPR_DATA, data)
	})
}

func (t *nftTable) meta(key uint32) {
	t.expression("meta", func() {
		t.big(unix.NFTA_META_DREG, unix.NFT_REG_1)
		t.big(unix.NFTA_META_KEY, key)
	})
}

// header loads bytes of the IP header.
func (t *nftTable) header(offset, size uint32) {
	const networkHeader = 1
	t.expression("payload", func() {
		t.big(unix.NFTA_PAYLOAD_DREG, unix.NFT_REG_1)
		t.big(unix.NFTA_PAYLOAD_BASE, networkHeader)
		t.big(unix.NFTA_PAYLOAD_OFFSET, offset)
		t.big(unix.NFTA_PAYLOAD_LEN, size)
	})
}

func (t *nftTable) compare(how uint32, with []byte) {
	t.expression("cmp", func() {
		t.big(unix.NFTA_CMP_SREG, unix.NFT_REG_1)
		t.big(unix.NFTA_CMP_OP, how)
		t.nest(unix.NFTA_CMP_DATA, func() { t.attr(unix.NFTA_DATA_VALUE, with...) })
	})
}

// notGroup ends a rule for what is sent to a group or to everybody.
func (t *nftTable) notGroup() {
	if t.ip.family == unix.NFPROTO_IPV4 {
		t.header(t.ip.destination, t.ip.size)
		t.compare(unix.NFT_CMP_LT, groups.Addr().AsSlice())
		return
	}
	t.header(t.ip.destination, 1)
	t.compare(unix.NFT_CMP_NEQ, []byte{0xff})
}

func (t *nftTable) lookup() {
	t.expression("lookup", func() {
		t.text(unix.NFTA_LOOKUP_SET, guardSet)
		t.big(unix.NFTA_LOOKUP_SREG, unix.NFT_REG_1)
		t.big(unix.NFTA_LOOKUP_SET_ID, 1)
	})
}

func (t *nftTable) drop(counter string) {
	t.expression("objref", func() {
		t.big(unix.NFTA_OBJREF_IMM_TYPE, nftObjectCounter)
		t.text(unix.NFTA_OBJREF_IMM_NAME, counter)
	})
	t.verdict(nfDrop)
}

func (t *nftTable) verdict(code uint32) {
	t.expression("immediate", func() {
		t.big(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		t.nest(unix.NFTA_IMMEDIATE_DATA, func() {
			t.nest(unix.NFTA_DATA_VERDICT, func() { t.big(unix.NFTA_VERDICT_CODE, code) })
		})
	})
}

// elements writes a change of the set.
func (t *nftTable) elements(kind, flags uint16, addrs []netip.Addr) {
	for chunk := range slices.Chunk(addrs, elementChunk) {
		t.message(kind, flags, func() {
			t.text(unix.NFTA_SET_ELEM_LIST_TABLE, t.name)
			t.text(unix.NFTA_SET_ELEM_LIST_SET, guardSet)
			t.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
				for _, a := range chunk {
					t.nest(unix.NFTA_LIST_ELEM, func() {
						t.nest(unix.NFTA_SET_ELEM_KEY, func() { t.attr(unix.NFTA_DATA_VALUE, a.AsSlice()...) })
					})
				}
			})
		})
	}
}
