package httpapi

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
)

// checkHost refuses requests that come over loopback under a name that is
// neither an address nor localhost nor one of Config.Hosts: a page of another
// site that has pointed its own name here (DNS rebinding) would have one.
func (s *Server) checkHost(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		local, _ := c.Request().Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		if local == nil || !local.IP.IsLoopback() || s.knownHost(c.Request().Host) {
			return next(c)
		}
		return echo.NewHTTPError(http.StatusMisdirectedRequest, "this server does not answer to that Host: use localhost, or allow the name with --hosts")
	}
}

func (s *Server) knownHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || host == "localhost" || strings.HasSuffix(host, ".localhost") || slices.Contains(s.cfg.Hosts, host)
}
