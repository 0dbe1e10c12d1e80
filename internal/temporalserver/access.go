//go:build !slim

package temporalserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"time"

	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/rpc/encryption"
)

// secret compares with a token in constant time. Hashing first hides the length too.
type secret [sha256.Size]byte

func newSecret(token string) secret { return sha256.Sum256([]byte(token)) }

func (s secret) equals(candidate string) bool {
	c := sha256.Sum256([]byte(candidate))
	return subtle.ConstantTimeCompare(s[:], c[:]) == 1
}

// tokenClaims gives every right to callers that present the install token and none to others; the default authorizer then lets
// only health checks through.
type tokenClaims struct{ token secret }

func newTokenClaims(token string) tokenClaims { return tokenClaims{newSecret(token)} }

// GetClaims implements authorization.ClaimMapper. A wrong token is not an error: that would put a line into the log for each
// attempt, and the authorizer's refusal reads the same to the caller.
func (t tokenClaims) GetClaims(info *authorization.AuthInfo) (*authorization.Claims, error) {
	scheme, token, found := strings.Cut(info.AuthToken, " ")
	if !found || !strings.EqualFold(scheme, "Bearer") || !t.token.equals(token) {
		return nil, nil
	}
	return &authorization.Claims{Subject: "turnwise", System: authorization.RoleAdmin, AuthType: "token"}, nil
}

// newInternalTLS makes the certificate by which Temporal's services recognise each other. It exists in this process's memory
// only, so that nobody else on the machine can use the internal ports, which know no tokens. The public frontend stays without
// TLS: it is on 127.0.0.1 and asks for the token.
func newInternalTLS() (*encryption.FixedTLSConfigProvider, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "turnwise internal"},
		NotBefore:    now.Add(-time.Hour),
		// A server may run for as long as a machine stays up.
		NotAfter:    now.AddDate(20, 0, 0),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA:        true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.ParseIP(localhost)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	certificates := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: parsed}}
	return &encryption.FixedTLSConfigProvider{
		InternodeServerConfig: &tls.Config{Certificates: certificates, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13},
		InternodeClientConfig: &tls.Config{Certificates: certificates, RootCAs: pool, ServerName: localhost, MinVersion: tls.VersionTLS13},
	}, nil
}
