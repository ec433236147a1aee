package queue

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"leafserve"
)

// address is a Redis URL taken apart.
type address struct {
	shown string // for people, without passwords
	opts  *redis.UniversalOptions
}

// addressForms are what a Redis URL may look like (Connect).
const addressForms = "want redis://[user:password@]host:6379[/db], redis+sentinel://[user:password@]host:26379,host:26379/MASTER[/db] " +
	"or redis+cluster://[user:password@]host:6379,host:6379, each with rediss for TLS, and %40 for an @ in a password"

var addressParts = regexp.MustCompile(`^([a-z+]+)://(?:([^/?#]*)@)?([^/?#@]*)(?:/([^?#@]*))?(?:\?([^#@]*))?$`)

// schemes tell TLS and the kind of the servers, as they call it themselves.
var schemes = map[string]struct {
	tls  bool
	mode string
}{
	"redis":           {false, "standalone"},
	"rediss":          {true, "standalone"},
	"redis+sentinel":  {false, "sentinel"},
	"rediss+sentinel": {true, "sentinel"},
	"redis+cluster":   {false, "cluster"},
	"rediss+cluster":  {true, "cluster"},
}

// parseAddress reads a Redis URL. net/url would not do: it wants one host.
func parseAddress(text string) (address, error) {
	m := addressParts.FindStringSubmatch(text)
	if m == nil { // who knows what is a password in it
		return address{}, leafserve.Errorf(leafserve.Invalid, "the Redis URL (not shown) is malformed: %s", addressForms)
	}
	scheme, login, hosts, path, query := m[1], m[2], m[3], m[4], m[5]
	to := address{shown: scheme + "://" + hosts, opts: &redis.UniversalOptions{}}
	if path != "" {
		to.shown += "/" + path
	}
	if err := to.fill(scheme, login, hosts, path, query); err != nil {
		return address{}, leafserve.Errorf(leafserve.Invalid, "Redis URL %s is malformed: %w: %s", to.shown, err, addressForms)
	}
	return to, nil
}

func (a *address) fill(scheme, login, hosts, path, query string) error {
	kind, ok := schemes[scheme]
	if !ok {
		return fmt.Errorf("its scheme is %q", scheme)
	}
	a.opts.IsClusterMode = kind.mode == "cluster"
	if err := a.login(login); err != nil {
		return err
	}
	if err := a.hosts(hosts, kind.mode); err != nil {
		return err
	}
	if err := a.path(path, kind.mode); err != nil {
		return err
	}
	return a.options(query, kind.tls, kind.mode)
}

func (a *address) login(login string) (err error) {
	user, password, both := strings.Cut(login, ":")
	if !both {
		user, password = "", user // as redis-cli has it: "secret@" is a password
	}
	if a.opts.Username, err = url.PathUnescape(user); err != nil {
		return errors.New("its user has a % that is no escape")
	}
	if a.opts.Password, err = url.PathUnescape(password); err != nil {
		return errors.New("its password has a % that is no escape")
	}
	return nil
}

func (a *address) hosts(hosts, mode string) error {
	port := "6379"
	if mode == "sentinel" {
		port = "26379"
	}
	for host := range strings.SplitSeq(hosts, ",") {
		addr, err := withPort(host, port)
		if err != nil {
			return err
		}
		a.opts.Addrs = append(a.opts.Addrs, addr)
	}
	if mode == "standalone" && len(a.opts.Addrs) > 1 {
		return errors.New("it has several hosts, which need +sentinel or +cluster in the scheme")
	}
	return nil
}

// withPort completes host, host:port, [v6] or [v6]:port.
func withPort(host, port string) (string, error) {
	u, err := url.Parse("redis://" + host)
	if err != nil || u.Hostname() == "" || u.Host != host {
		return "", fmt.Errorf("its host %q is none", host)
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return "", fmt.Errorf("the port of its host %q is not from 1 to 65535", host)
		}
		port = p
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

func (a *address) path(path, mode string) (err error) {
	db := path
	switch mode {
	case "sentinel":
		a.opts.MasterName, db, _ = strings.Cut(path, "/")
		if a.opts.MasterName == "" {
			return errors.New("it has no name of a master")
		}
	case "cluster":
		if path != "" {
			return errors.New("a cluster has no databases")
		}
	}
	if db == "" {
		return nil
	}
	if a.opts.DB, err = strconv.Atoi(db); err != nil || a.opts.DB < 0 {
		return fmt.Errorf("its database %q is no number", db)
	}
	return nil
}

// options reads the query; every name is taken out when it has been read.
func (a *address) options(query string, secure bool, mode string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("its options after the ? are not name=value&name=value")
	}
	take := func(name string) string {
		defer delete(values, name)
		return values.Get(name)
	}
	var known []string
	if mode == "sentinel" {
		known = append(known, "sentinel_user", "sentinel_password")
		a.opts.SentinelUsername, a.opts.SentinelPassword = take("sentinel_user"), take("sentinel_password")
	}
	if secure {
		known = append(known, "ca_cert", "cert", "key", "server_name")
		a.opts.TLSConfig, err = tlsConfig(take("ca_cert"), take("cert"), take("key"), take("server_name"))
		if err != nil {
			return err
		}
	}
	if len(values) == 0 {
		return nil
	}
	unknown := slices.Sorted(maps.Keys(values))
	if len(known) == 0 {
		return fmt.Errorf("its option %q is none, as such a URL has none", unknown[0])
	}
	return fmt.Errorf("its option %q is none, there are: %s", unknown[0], strings.Join(known, ", "))
}

// tlsConfig reads PEM files; "" leaves the system's authorities, no certificate
// of our own, and the name of the host that is called.
func tlsConfig(ca, cert, key, name string) (*tls.Config, error) {
	cfg := &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("ca_cert: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_cert: there is no certificate in %s: want PEM", ca)
		}
	}
	if cert == "" && key == "" {
		return cfg, nil
	}
	if cert == "" || key == "" {
		return nil, errors.New("of cert and key it has only one")
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("cert and key: %w", err)
	}
	cfg.Certificates = []tls.Certificate{pair}
	return cfg, nil
}
