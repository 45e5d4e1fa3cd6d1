package conf

import (
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	hostPattern  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
	numbersAtEnd = regexp.MustCompile(`(^|\.)[0-9]+$`)
)

// isListenAddress tells whether v is HOST:PORT of a place to listen at: no host
// for every address of the machine, an IPv4 address, an IPv6 address in brackets,
// or a name. Port 0 would be one that nobody knows.
func isListenAddress(v string) bool {
	colon := strings.LastIndexByte(v, ':')
	if colon < 0 {
		return false
	}
	host, digits := v[:colon], v[colon+1:]
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || port == 0 || strconv.FormatUint(port, 10) != digits {
		return false
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		address, err := netip.ParseAddr(inner)
		return ok && err == nil && address.Is6()
	}
	if address, err := netip.ParseAddr(host); err == nil {
		return address.Is4()
	}
	// What ends in a number is meant as an IPv4 address, and is none.
	return host == "" || hostPattern.MatchString(host) && !numbersAtEnd.MatchString(host)
}

// parsePaths reads absolute paths with commas between them. One that stands there
// twice is a slip, and would make two metrics of the same labels.
func parsePaths(v string) (paths []string, ok bool) {
	for part := range strings.SplitSeq(v, ",") {
		path := strings.TrimSpace(part)
		if !filepath.IsAbs(path) || !utf8.ValidString(path) || strings.ContainsFunc(path, unicode.IsControl) || slices.Contains(paths, path) {
			return nil, false
		}
		paths = append(paths, path)
	}
	return paths, true
}
