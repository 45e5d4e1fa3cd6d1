package rig

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
	"time"
)

// Authority is a certificate authority that lives as long as a test.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// PEM is its certificate, without its key.
	PEM []byte
}

// Certificate is a certificate and its key, as files hold them.
type Certificate struct {
	CertPEM, KeyPEM []byte
}

// CertificateOptions say what is asked for. Without times it is valid from an hour
// ago for a day, without Usages for clients and servers.
type CertificateOptions struct {
	Name                string
	Hosts               []string // names and addresses
	NotBefore, NotAfter time.Time
	Usages              []x509.ExtKeyUsage
}

// NewAuthority makes an authority.
func NewAuthority(name string) (*Authority, error) {
	template, err := CertificateOptions{Name: name}.template()
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	template.ExtKeyUsage = nil
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	made, err := sign(template, template, key, key)
	if err != nil {
		return nil, err
	}
	a := &Authority{key: key, PEM: made.CertPEM}
	block, _ := pem.Decode(made.CertPEM)
	a.cert, err = x509.ParseCertificate(block.Bytes)
	return a, err
}

// Issue makes a certificate of this authority.
func (a *Authority) Issue(opts CertificateOptions) (*Certificate, error) {
	return issue(opts, a)
}

// SelfSigned makes a certificate that nobody vouches for.
func SelfSigned(opts CertificateOptions) (*Certificate, error) { return issue(opts, nil) }

func issue(opts CertificateOptions, by *Authority) (*Certificate, error) {
	template, err := opts.template()
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if by == nil {
		return sign(template, template, key, key)
	}
	return sign(template, by.cert, key, by.key)
}

func (o CertificateOptions) template() (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: o.Name},
		NotBefore: o.NotBefore, NotAfter: o.NotAfter, ExtKeyUsage: o.Usages, KeyUsage: x509.KeyUsageDigitalSignature}
	if t.NotBefore.IsZero() {
		t.NotBefore = time.Now().Add(-time.Hour)
	}
	if t.NotAfter.IsZero() {
		t.NotAfter = time.Now().Add(24 * time.Hour)
	}
	if t.ExtKeyUsage == nil {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	}
	for _, host := range o.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, host)
		}
	}
	return t, nil
}

func sign(template, by *x509.Certificate, key, byKey *ecdsa.PrivateKey) (*Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, by, &key.PublicKey, byKey)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &Certificate{
		CertPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		KeyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}, nil
}

// Pair is the certificate as crypto/tls takes it.
func (c *Certificate) Pair() (tls.Certificate, error) {
	return tls.X509KeyPair(c.CertPEM, c.KeyPEM)
}
