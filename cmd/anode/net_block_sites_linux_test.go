package main_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// proxy is what runs on a box for the machines inside, which reach nothing else.
type proxy struct {
	program string // empty: a few lines of this test, which keep each body until it is whole
	user    string // NAME:PASSWORD that it wants; empty: none
	digest  bool   // by Digest, not Basic
	config  bool   // a's configuration names it; else its environment does
}

// proxies are those of boxes.
var proxies = map[string]proxy{
	"tinyproxy":          {program: "tinyproxy"},
	"tinyproxy-password": {program: "tinyproxy", user: "ann:red-herring"},
	"squid":              {program: "squid"},
	"squid-password":     {program: "squid", user: "ann:red-herring", config: true},
	"squid-digest":       {program: "squid", user: "ann:red-herring", digest: true, config: true},
	"buffering":          {},
}

const proxyPort = 3128

// proxyAt is where machines inside reach the box's proxy.
func (g *gateway) proxyAt() netip.AddrPort {
	return netip.AddrPortFrom(g.lans[0].prefix.Addr().Next(), proxyPort)
}

// proxyURL is the same with name and password.
func (g *gateway) proxyURL() string {
	u := url.URL{Scheme: "http", Host: g.proxyAt().String()}
	if name, word, ok := strings.Cut(proxies[g.proxy].user, ":"); ok {
		u.User = url.UserPassword(name, word)
	}
	return u.String()
}

// settings are what a daemon on a host behind the box must be told of its proxy.
func (g *gateway) settings(h *host) (env, flags []string) {
	switch p := proxies[g.proxy]; {
	case g.proxy == "":
		return nil, nil
	case !p.config:
		return []string{"http_proxy=" + g.proxyURL()}, nil
	default:
		file := h.write("proxy", p.user+"\n")
		if err := os.Chmod(file, 0o600); err != nil {
			h.t.Fatal(err)
		}
		return nil, []string{"--set", "proxy=http://" + g.proxyAt().String(), "--set", "proxy_credentials=file:" + file}
	}
}

// serveProxy has the box run its proxy.
func (g *gateway) serveProxy() {
	if g.proxy == "" {
		return
	}
	p := proxies[g.proxy]
	if p.program == "" {
		g.serveHTTP(g.proxyAt().String(), bufferingProxy(g.host))
		return
	}
	g.serveBy(p.program, g.proxyAt(), map[string]func(proxy) []string{"tinyproxy": g.tinyproxy, "squid": g.squid}[p.program](p)...)
}

// serveBy starts a program that is to listen on a TCP port of the host, and waits until it does.
func (h *host) serveBy(program string, at netip.AddrPort, args ...string) {
	h.t.Helper()
	file, err := exec.LookPath(program)
	if err != nil {
		need(h.t, program)
	}
	p := h.start(append([]string{file}, args...)...)
	within(h.t, 2*dialWait, program, func() bool {
		select {
		case <-p.done:
			h.t.Fatalf("%s has ended: %s", program, p.output())
		default:
		}
		c, err := h.dialOutside(at.String(), time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// write makes a file of the host's, which programs that give up root can read too.
func (h *host) write(name, text string) string {
	h.t.Helper()
	file := filepath.Join(h.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
	return file
}

// tinyproxy writes a configuration like Debian's, and returns the arguments.
func (g *gateway) tinyproxy(p proxy) []string {
	text := fmt.Sprintf("Port %d\nListen %s\nTimeout 600\nMaxClients 100\nConnectPort 443\nConnectPort 563\nPidFile \"%s\"\n",
		proxyPort, g.proxyAt().Addr(), filepath.Join(g.dir, "tinyproxy.pid"))
	if name, word, ok := strings.Cut(p.user, ":"); ok {
		text += fmt.Sprintf("BasicAuth %s %s\n", name, word)
	}
	return []string{"-d", "-c", g.write("tinyproxy.conf", text)}
}

// squid is the same for squid, which gives up root.
func (g *gateway) squid(p proxy) []string {
	if err := os.Chmod(g.dir, 0o755); err != nil {
		g.t.Fatal(err)
	}
	access := "http_access allow all\n"
	if p.user != "" {
		file := g.write("passwords", p.user+"\n")
		helper := "auth_param basic program /usr/lib/squid/basic_ncsa_auth " + file
		if p.digest {
			helper = "auth_param digest program /usr/lib/squid/digest_file_auth " + file
		} else {
			name, word, _ := strings.Cut(p.user, ":")
			out := g.run("openssl", "passwd", "-apr1", word)
			g.write("passwords", name+":"+out)
		}
		access = helper + "\nauth_param " + map[bool]string{false: "basic", true: "digest"}[p.digest] + " realm proxy\n" +
			"acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n"
	}
	text := fmt.Sprintf("http_port %s\npid_filename none\naccess_log none\ncache_log /dev/null\ncache deny all\nshutdown_lifetime 0 seconds\n"+
		"acl tls port 443\nacl CONNECT method CONNECT\nhttp_access deny CONNECT !tls\n%s", g.proxyAt(), access)
	return []string{"-N", "-f", g.write("squid.conf", text), "-n", fmt.Sprintf("natlab%d", g.tid)}
}

// bufferingProxy is a proxy that hands on a body when it has the whole of it.
func bufferingProxy(g *host) http.Handler {
	client := &http.Transport{DialContext: func(_ context.Context, _, to string) (net.Conn, error) { return g.dialOutside(to, dialWait) }}
	g.t.Cleanup(client.CloseIdleConnections)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host == "" {
			http.Error(w, "this is a proxy", http.StatusBadRequest)
			return
		}
		sent, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		out := r.Clone(r.Context())
		out.RequestURI, out.Body, out.ContentLength = "", io.NopCloser(strings.NewReader(string(sent))), int64(len(sent))
		answer, err := client.RoundTrip(out)
		if err != nil {
			http.Error(w, "the server does not answer", http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		came, err := io.ReadAll(answer.Body)
		if err != nil {
			http.Error(w, "the server has ended its answer too early", http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
		w.WriteHeader(answer.StatusCode)
		w.Write(came)
	})
}

const portalPort = 8080

// servePortal has a box answer all that is asked by HTTP on port 80 with its page.
func (g *gateway) servePortal() {
	if !g.portal {
		return
	}
	page := fmt.Sprintf("http://%s:%d/login", g.lans[0].prefix.Addr().Next(), portalPort)
	g.serveHTTP(fmt.Sprintf(":%d", portalPort), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/login" {
			http.Redirect(w, r, page, http.StatusFound)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<html><body>Welcome. Accept the terms.</body></html>")
	}))
}

// openPortal has the portal in front of a host let everything through.
func (l *laboratory) openPortal(h *host) {
	g := l.innermost(h)
	g.portal, g.closed = false, false
	g.rule()
}

// blockUDP has the box next to a host drop all UDP, or not.
func (l *laboratory) blockUDP(h *host, blocked bool) {
	g := l.innermost(h)
	g.noUDP = blocked
	g.rule()
}

// serveNginx has a machine's nginx hand on what is asked on port 80 to a server on the same
// machine. Beside that, it is as Debian configures it.
func (h *host) serveNginx(to string) {
	h.t.Helper()
	dir := filepath.Join(h.dir, "nginx")
	if err := os.Mkdir(dir, 0o755); err != nil {
		h.t.Fatal(err)
	}
	var temporary strings.Builder
	for _, what := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temporary, "%s_temp_path %s/%s;\n", what, dir, what)
	}
	conf := h.write("nginx.conf", fmt.Sprintf("user root;\nworker_processes 1;\ndaemon off;\npid %s/pid;\nerror_log stderr;\n"+
		"events { worker_connections 500; }\nhttp {\naccess_log off;\n%sserver {\nlisten 80;\nlocation / { proxy_pass http://%s; }\n}\n}\n", dir, temporary.String(), to))
	h.serveBy("nginx", netip.MustParseAddrPort("127.0.0.1:80"), "-c", conf, "-p", dir)
}
