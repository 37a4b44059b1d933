// Package config reads a daemon's configuration. A value comes from the first of
// these that has it:
//
//	flag                  --port 8738, or --set listen.port=8738 for any key
//	environment           ANODE_LISTEN_PORT=8738
//	file (TOML, strict)   [listen]
//	                      port = 8738
//	default               8737
//
// Whatever is wrong with any of them is reported at once (Problems), with its place. A
// variable that begins with ANODE_ and is none of ours is an error; an empty one is not set.
//
// The file is never written by the program. Peers that people add while the daemon
// runs are kept in the state database; those of the file are in addition to them.
package config

import (
	"log/slog"

	"anodenet/anode"
	"anodenet/cmd/internal/dns"
	"anodenet/cmd/internal/names"
	"anodenet/cmd/internal/proxy"
	"anodenet/info2"
	"anodenet/overlay"
	"anodenet/overlay/alias"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
)

// Config is a whole configuration. Its keys are listed by Config.keys.
type Config struct {
	Zone   Zone    `toml:"zone"`
	Site   Site    `toml:"zone"` // the other keys of the section
	Secret Secret  `toml:"secret"`
	STUN   Servers `toml:"stun"`
	// Portmap asks the network's gateway to let the port in, except in the networks of
	// PortmapOff: names of interfaces, prefixes and addresses.
	Portmap    bool     `toml:"portmap"`
	PortmapOff []string `toml:"portmap_off"`
	// Proxy is what connections go through where they cannot be opened directly. Credentials are who
	// we are there.
	Proxy       Proxy       `toml:"proxy"`
	Credentials Credentials `toml:"proxy_credentials"`
	Listen      Listen      `toml:"listen"`
	Tun         Tun         `toml:"tun"`
	Local       Local       `toml:"local"`
	Files       Files       `toml:"files"`
	LAN         LAN         `toml:"lan"`
	Names       Names       `toml:"names"`
	Discovery   Discovery   `toml:"discovery"`
	People      People      `toml:"people"`
	Link        Link        `toml:"link"`
	Policy      Policy      `toml:"policy"`
	Relay       Relay       `toml:"relay"`
	Info2       Info2       `toml:"info2"`
	Log         Log         `toml:"log"`
	Peers       []Peer      `toml:"peers"`
	// Services are told to friends.
	Services []dns.Service `toml:"services"`
}

// Listen sets where packets come in.
type Listen struct {
	Port uint16 `toml:"port"` // UDP; 0 lets the system choose
	TCP  Ports  `toml:"tcp"`
}

// Tun is the adapter.
type Tun struct {
	Name    string  `toml:"name"` // "none": no adapter
	MTU     int     `toml:"mtu"`
	Queues  int     `toml:"queues"` // 0: the default for this machine
	Offload Offload `toml:"offload"`
}

// Link sets how packets are sent and received.
type Link struct {
	Rung        Rung `toml:"rung"`
	StandardAES bool `toml:"standard_aes"`
	// Ethernet are the names of interfaces on which packets go in frames of their own.
	Ethernet []string `toml:"ethernet"`
}

// Policy sets who may reach this machine.
type Policy struct {
	Open bool `toml:"open"`
}

// Site is the zone file that this machine serves.
type Site struct {
	Serve Serve  `toml:"serve"`
	Path  string `toml:"file"` // "": one is made
}

// Relay sets which nodes packets are forwarded for, and how many.
type Relay struct {
	Enabled    bool `toml:"enabled"`
	Zone       bool `toml:"zone"`
	ClientRate Rate `toml:"client_rate"`
	TotalRate  Rate `toml:"total_rate"`
}

// Info2 is the text network.
type Info2 struct {
	Enabled bool   `toml:"enabled"`
	Bare    bool   `toml:"bare"`
	Bridge  bool   `toml:"bridge"`
	Port    uint16 `toml:"port"`
}

// Log sets what is logged, and how.
type Log struct {
	Level  slog.Level `toml:"level"`
	Format Format     `toml:"format"`
}

// Peer is one that is added for as long as the configuration names it.
type Peer struct {
	Address   anode.Address `toml:"address"`
	Name      string        `toml:"name"`
	Endpoints []book.Place  `toml:"endpoints"`
	LAN       bool          `toml:"lan"`
}

// Entry returns a peer as a book takes it.
func (p Peer) Entry() book.Entry {
	endpoints, hosts := book.Split(p.Endpoints)
	return book.Entry{Address: p.Address, Name: p.Name, Endpoints: endpoints, Hosts: hosts, LAN: p.LAN}
}

// The bounds of the adapter's MTU: what IPv6 demands (RFC 8200, 5), and the
// longest packet.
const (
	minMTU = 1280
	maxMTU = 65535
)

// MaxQueues is the most queues an adapter has.
const MaxQueues = 16

// NoTun is the name of no adapter.
const NoTun = "none"

// Default returns the configuration without any settings.
func Default() Config {
	return Config{
		Portmap:   true,
		Listen:    Listen{Port: link.Port},
		Tun:       Tun{Name: "anode0", MTU: 1440, Offload: OffloadAuto},
		LAN:       LAN{Peers: LANChosen, IP4: Range{alias.Range}},
		Names:     Names{Enabled: true, Suffix: names.Suffix, Port: dns.Preferred, Manage: ManageAuto},
		Discovery: Discovery{Announce: AnnounceAll},
		People:    People{Requests: RequestsAll},
		Link:      Link{Rung: RungAuto},
		Site:      Site{Serve: Serve{On: true}},
		Relay:     Relay{Enabled: true, ClientRate: Rate{overlay.DefaultRelayLimits().ClientBytes}},
		Info2:     Info2{Enabled: true, Port: info2.Port},
		Log:       Log{Level: slog.LevelInfo, Format: FormatText},
	}
}

// keys lists all keys in the order of the example. The environment, --set, the
// example and the search for the nearest name all come from this list.
func (c *Config) keys() []key {
	return []key{
		{"secret", textOf("\"file:PATH\", the name of a file that holds it", &c.Secret), "The network's secret, as \"file:PATH\" of a file that only the daemon's user can\nread; make one with \"anode config secret PATH\". With it, only peers\nthat you added, and that have it too, get a session. Empty: none."},
		{"stun", servers{&c.STUN}, "STUN servers that may tell this machine how the internet sees it, as\n[\"udp:HOST:PORT\"]: of use where no peer can tell it. They learn its address. Empty: none."},
		{"portmap", truth{&c.Portmap}, "Ask the network's router to let packets from the internet in (PCP, NAT-PMP or UPnP),\nso that peers in other networks reach this machine without a relay."},
		{"portmap_off", networksOf(&c.PortmapOff), "Networks in which no router is asked, by interface or address:\n[\"eth0\", \"192.168.7.0/24\"]."},
		{"proxy", textOf(proxyForms, &c.Proxy), "The HTTP proxy for connections that do not come about directly, where no UDP gets\nthrough: \"http://HOST:PORT\", \"none\", or \"env\" for what the variables http_proxy, https_proxy\nand no_proxy say, which a service has only if its unit sets them."},
		{"proxy_credentials", textOf("\"file:PATH\", the name of a file that holds USER:PASSWORD", &c.Credentials), "Who you are at the proxy, as \"file:PATH\" of a file with one line, USER:PASSWORD,\nthat only the daemon's user can read (chmod 600). It is read again at each reload. Empty:\nnobody, or what the proxy's variable says."},
		{"zone", textOf(zoneForms, &c.Zone), "The zone of a new identity: the IPv4 address of the machine with the zone's file, or\n8 hex digits; 0 is the local network's. An identity that exists keeps its own."},
		{"zone.serve", serving{&c.Site.Serve}, "Serve the zone file on port 80 of the zone's address, for others to find the relays of\nthe zone; \"IP:PORT\" serves it there. Only with relay.zone or zone.file."},
		{"zone.file", pathOf(&c.Site.Path), "The zone file to serve. Empty: one is made that names this machine as the zone's relay."},
		{"listen.port", number[uint16]{&c.Listen.Port, 0, 65535}, "The UDP port for packets; 0 lets the system choose. Beacons always use 8737."},
		{"listen.tcp", ports{&c.Listen.TCP}, "The TCP ports on which nodes are heard whose network lets no UDP through, such as\n[8737, 443, 80]; each takes HTTP as well. \"auto\": the port of listen.port. []: none."},
		{"tun.name", interfaceName(&c.Tun.Name), "The adapter's name. \"none\": no adapter, which needs no rights; programs use [local]."},
		{"tun.mtu", number[int]{&c.Tun.MTU, minMTU, maxMTU}, "The adapter's MTU. 1440 fits a network of 1500 bytes over IPv4 and IPv6."},
		{"tun.queues", number[int]{&c.Tun.Queues, 0, MaxQueues}, "The number of queues of the adapter, 1 to 16. Flows are spread over them; each has its\nown goroutines and socket. 0: four, or one for each core if there are more."},
		{"tun.offload", wordOf(offloads, &c.Tun.Offload), "Segmentation offload, where many packets cross the adapter as one, much faster:\nauto (if the system can), on (or fail), off."},
		{"local.socks", placeOf(&c.Local.SOCKS), "A SOCKS5 proxy through which programs of this machine reach peers without the adapter:\n\"127.0.0.1:1080\", a port alone, or \"unix:/PATH\". Every user of this machine can connect to\na port; a unix socket is for root, the daemon's user and the group anode. Empty: none."},
		{"local.http", placeOf(&c.Local.HTTP), "The same as an HTTP proxy, such as \"127.0.0.1:8118\". It serves CONNECT alone."},
		{"local.forward", doorsOf(&c.Local.Forward, "[\"8080=north:80\", \"udp:5353=north:53\"]", proxy.ParseForwarding), "Local ports that lead to ports of peers, as [\"8080=north:80\", \"udp:5353=north:53\"]:\n[udp:]LOCAL=PEER:PORT, LOCAL written like the place of local.socks."},
		{"local.expose", doorsOf(&c.Local.Expose, "[\"8080\", \"80=127.0.0.1:8080@north+south\"]", proxy.ParseExposure), "Ports at which peers reach services of this machine without the adapter, as\n[\"22\", \"80=127.0.0.1:8080@north+south\"]: [udp:]PORT[=HOST:PORT][@PEER+PEER]. Without\n@PEER every peer that you added may use it; others never can."},
		{"local.anywhere", truth{&c.Local.Anywhere}, "Let local.socks, local.http and local.forward listen on addresses that other machines\nreach. Everybody who reaches them uses the network as this machine."},
		{"files.trust", trusted(&c.Files.Trust), "Peers whose files \"anode recv\" accepts without asking, as [\"laptop\", \"north\"]: whole names,\naddresses, ULAs or short IDs of peers that you added. It asks about others."},
		{"files.dir", directoryOf(&c.Files.Dir), "The directory that \"anode recv\" receives into, from / or, in the home of who receives, ~/.\nEmpty: the one in which it is started."},
		{"lan.peers", wordOf(lanPeers, &c.LAN.Peers), "Who is in this machine's virtual LAN, where programs find each other by broadcast and\nmulticast: chosen (\"anode peers lan PEER on\", or lan = true under [[peers]]), or all peers that you\nadded. A peer must choose this machine as well."},
		{"lan.ip4", textOf(rangeForms, &c.LAN.IP4), "The range of the IPv4 addresses that peers have on this machine, for programs that know\nonly IPv4. It must be in no other use here. \"off\": none."},
		{"lan.games", truth{&c.LAN.Games}, "Lead 255.255.255.255 and IPv4 multicast of programs that name no interface to the virtual\nLAN, and not to the real one, as \"anode games on\" does."},
		{"people.requests", wordOf(requests, &c.People.Requests), "Which requests to be let in are listed: all, introduced (only those of somebody that one of your\npeers introduced), or off."},
		{"people.name", ownName(&c.People.Name), "What this machine calls itself to those that it asks or invites, and to its friends. Empty: the\nname of the host."},
		{"names.enabled", truth{&c.Names.Enabled}, "Let other programs of this machine find peers by name, as north.anode.internal: the daemon\nanswers DNS for these names on this machine's ULA. Only with an adapter."},
		{"names.suffix", suffixOf(&c.Names.Suffix), "The domain that the names of peers are in."},
		{"names.search", truth{&c.Names.Search}, "Let programs leave the domain out, if the system's resolver can be told: \"ping north\". Names\nof the LAN that are the same are then not found any more, or found instead."},
		{"names.port", number[uint16]{&c.Names.Port, 1, 65535}, "The port for DNS. If it is taken, or the daemon may not use it, 8753 is used. With 53, a resolver\nsuch as dnsmasq may not start any more on this machine."},
		{"names.manage", wordOf(manages, &c.Names.Manage), "auto tells the system's resolver to ask the daemon for these names; off leaves that to you\n(\"anode dns instructions\")."},
		{"discovery.interfaces", interfaces(&c.Discovery.Interfaces), "Interfaces on which this machine announces itself to the real LAN and looks for peers,\nsuch as [\"eth0\"]. Empty: all."},
		{"discovery.announce", wordOf(announces, &c.Discovery.Announce), "Who on the real LAN may learn that this machine is there: all (the beacon has its\naddress), friends (only peers that it added recognise the beacon, and are answered; others see\nthat some node has this IP address and MAC), or off (it is silent, and answers only peers\nthat it added)."},
		{"discovery.quiet", networksOf(&c.Discovery.Quiet), "Networks on which this machine is silent, by interface or by its address there:\n[\"wlan0\", \"192.168.44.0/24\"]."},
		{"link.rung", wordOf(rungs, &c.Link.Rung), "How packets go to the network: auto, gso, batch or plain. auto tries the fastest\nand steps down when it fails."},
		{"link.standard_aes", truth{&c.Link.StandardAES}, "Encrypt with Go's AES-GCM even where the processor can run Anode's, which is faster."},
		{"link.ethernet", interfaces(&c.Link.Ethernet), "Interfaces on whose cable peers are found without any IP address, such as [\"eth0\"]\n(Linux; needs CAP_NET_RAW). Everybody on it hears the beacons."},
		{"policy.open", truth{&c.Policy.Open}, "Let everybody reach every port of this machine that listens on the adapter, not only\nthe peers that you added. Pings are always answered."},
		{"relay.enabled", truth{&c.Relay.Enabled}, "Forward packets between peers that you added and that cannot reach each other."},
		{"relay.zone", truth{&c.Relay.Zone}, "Forward packets for every address of this machine's zone too."},
		{"relay.client_rate", rate{&c.Relay.ClientRate}, "The most to forward for each address of the zone, such as \"100Mbit\" (a second), \"12MB\"\nor bytes; 0: no limit. Peers that you added have none."},
		{"relay.total_rate", rate{&c.Relay.TotalRate}, "The most for all of them together."},
		{"info2.enabled", truth{&c.Info2.Enabled}, "Exchange texts (\"anode say\", \"anode chat\") with the peers that you added, encrypted.\nThey forward what you say to their peers. Needs the adapter."},
		{"info2.bare", truth{&c.Info2.Bare}, "Exchange texts with strangers too, in clear text (IPv4, TCP, without Anode): another\nnetwork, with other people."},
		{"info2.bridge", truth{&c.Info2.Bridge}, "Carry each text of one of the two networks to the other, so that what your peers say\nbecomes clear text that anybody can read."},
		{"info2.port", number[uint16]{&c.Info2.Port, 1, 65535}, "TCP port of both networks; every member must use the same one."},
		{"log.level", levelOf(&c.Log.Level), "debug, info, warn or error."},
		{"log.format", wordOf(formats, &c.Log.Format), "text or json."},
	}
}

// Change is a key whose value is another one, with both values as in the file.
type Change struct{ Key, Old, New string }

// Changes lists the keys whose values differ in b. Peers and services are not among them.
func Changes(a, b Config) (list []Change) {
	ka, kb := a.keys(), b.keys()
	for i := range ka {
		if before, after := ka[i].value.format(), kb[i].value.format(); before != after {
			list = append(list, Change{ka[i].name, before, after})
		}
	}
	return list
}
