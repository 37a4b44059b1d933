package link
import ("testing";"crypto/md5";"crypto/x509";"fmt";"time";"runtime")
func TestZZ(t *testing.T) {
	server, _, _ := posting(t)
	secure := secured(t, server.HTTP(), server)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	f := &forward{asks: digested("user", "secret", "MD5", md5.New)}
	client := through(t, f, "user", "secret", roots)
	ep := at(secure.URL+"/a/path")
	client.NewWriter().Write(packets(ep, 3, 35))
	time.Sleep(time.Second); { b := make([]byte, 1<<20); fmt.Println(string(b[:runtime.Stack(b, true)])) }; time.Sleep(6*time.Second)
	fmt.Println(client.Trouble(ep), client.Counters())
	for k, a := range client.proxies.known { fmt.Println(k, a.basic, a.digest, a.count) }
}
