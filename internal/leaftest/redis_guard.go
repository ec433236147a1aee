package leaftest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Guard protects servers: every connection is TLS with a certificate on either
// side, the default user has another password, and the ACL user RedisUser may do
// what Rules say. A nil Guard lets everybody in.
type Guard struct {
	CA, Cert, Key string // PEM files; the certificate serves servers and clients
	Rules         string // of the ACL, such as "~* &* +@all"
}

// The user of guarded servers and sentinels; the password needs every kind of
// escape in a URL.
const (
	RedisUser     = "leafserve"
	RedisPassword = "p@s:s/w?r#d%1"
	adminPassword = "all-of-it"
)

// NewGuard makes certificates, which last an hour, for host, a name or a
// loopback address.
func NewGuard(t testing.TB, host, rules string) *Guard {
	t.Helper()
	dir := t.TempDir()
	g := &Guard{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), Rules: rules}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, NotAfter: ca.NotAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		leaf.IPAddresses = []net.IP{ip}
	} else {
		leaf.DNSNames = []string{host}
	}
	caKey, key := newKey(t), newKey(t)
	writePEM(t, g.CA, "CERTIFICATE", sign(t, ca, ca, caKey, caKey))
	writePEM(t, g.Cert, "CERTIFICATE", sign(t, leaf, ca, key, caKey))
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, g.Key, "PRIVATE KEY", raw)
	return g
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, cert, by *x509.Certificate, key, byKey *ecdsa.PrivateKey) []byte {
	t.Helper()
	raw, err := x509.CreateCertificate(rand.Reader, cert, by, &key.PublicKey, byKey)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func writePEM(t testing.TB, file, kind string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// listen gives the arguments that make a server listen on port.
func (g *Guard) listen(port string) []string {
	if g == nil {
		return []string{"--bind", loopback, "--port", port}
	}
	args := append(g.transport(),
		"--bind", loopback, "--port", "0", "--tls-port", port,
		"--requirepass", adminPassword, "--masterauth", adminPassword,
		"--user", RedisUser, "on", ">"+RedisPassword)
	return append(args, strings.Fields(g.Rules)...)
}

// transport gives the arguments about TLS of servers and sentinels.
func (g *Guard) transport() []string {
	return []string{
		"--tls-cert-file", g.Cert, "--tls-key-file", g.Key, "--tls-ca-cert-file", g.CA,
		"--tls-replication", "yes", "--tls-cluster", "yes",
	}
}

// admin is the password of the default user.
func (g *Guard) admin() string {
	if g == nil {
		return ""
	}
	return adminPassword
}

// tls is how a client connects.
func (g *Guard) tls(t testing.TB) *tls.Config {
	t.Helper()
	if g == nil {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(g.Cert, g.Key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(g.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}}
}

// url puts an address together; kind is "", "+sentinel" or "+cluster", path has
// its slash, and more is further options.
func (g *Guard) url(kind, hosts, path, more string) string {
	if g == nil {
		return "redis" + kind + "://" + hosts + path
	}
	options := url.Values{"ca_cert": {g.CA}, "cert": {g.Cert}, "key": {g.Key}}.Encode()
	return "rediss" + kind + "://" + url.UserPassword(RedisUser, RedisPassword).String() + "@" + hosts + path + "?" + options + more
}
