//go:build !slim

package temporalserver

import (
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	sessionCookie  = "turnwise_session"
	sessionLife    = 7 * 24 * time.Hour
	maxSessions    = 256
	signInPath     = "/turnwise/sign-in"
	signOutPath    = "/turnwise/sign-out"
	releasesPath   = "/api/v1/releases"
	maxSignInBytes = 4 << 10
)

//go:embed signin.html
var signInPage string

// gate lets only signed-in browsers through to the web interface. A person signs in with the install token; the browser then
// holds a random session id, never the token, and the gate adds the token to each request it passes on. Sessions live in memory:
// a restart asks again.
type gate struct {
	next          http.Handler
	authorization string
	token         secret
	hosts         map[string]bool
	crossSite     *http.CrossOriginProtection

	mu       sync.Mutex
	sessions map[string]time.Time // id to expiry
}

func newGate(next http.Handler, token, address string) *gate {
	_, port, _ := net.SplitHostPort(address) // ours, made by loopback
	return &gate{
		next: next, authorization: "Bearer " + token, token: newSecret(token),
		hosts:     map[string]bool{address: true, net.JoinHostPort("localhost", port): true},
		crossSite: http.NewCrossOriginProtection(),
		sessions:  map[string]time.Time{},
	}
}

// ServeHTTP implements http.Handler.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// A foreign name that resolves to 127.0.0.1 would make another site's page count as ours.
	if !g.hosts[r.Host] {
		http.Error(w, "open this page by its address, 127.0.0.1 or localhost", http.StatusMisdirectedRequest)
		return
	}
	// Browsers send a cookie to every port of a host: another local server's page must not act with our session.
	if err := g.crossSite.Check(r); err != nil {
		http.Error(w, "request from another site refused", http.StatusForbidden)
		return
	}
	session := g.session(r)
	switch {
	case r.URL.Path == signInPath && r.Method == http.MethodPost:
		g.signIn(w, r)
	case session == "":
		refuse(w, r)
	case r.URL.Path == signOutPath && r.Method == http.MethodPost:
		g.forget(session)
		http.SetCookie(w, cookie("", -1))
		http.Redirect(w, r, "/", http.StatusSeeOther)
	case r.URL.Path == releasesPath:
		http.NotFound(w, r) // it would ask the internet for newer versions
	default:
		g.pass(w, r)
	}
}

// pass hands the request on with the token and without what only concerns the gate.
func (g *gate) pass(w http.ResponseWriter, r *http.Request) {
	r = r.Clone(r.Context())
	cookies := r.Cookies()
	r.Header.Del("Cookie")
	for _, c := range cookies {
		if c.Name != sessionCookie {
			r.AddCookie(c)
		}
	}
	r.Header.Set("Authorization", g.authorization)
	g.next.ServeHTTP(w, r)
}

func (g *gate) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxSignInBytes)
	if err := r.ParseForm(); err != nil || !g.token.equals(strings.TrimSpace(r.PostForm.Get("token"))) {
		page(w, http.StatusUnauthorized, "That is not this installation's token.")
		return
	}
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		http.Error(w, "no randomness for a session", http.StatusInternalServerError)
		return
	}
	id := hex.EncodeToString(raw)
	g.remember(id, time.Now())
	http.SetCookie(w, cookie(id, int(sessionLife/time.Second)))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// cookie has no Secure attribute: the page is served over plain HTTP on 127.0.0.1.
func cookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{Name: sessionCookie, Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

// session returns the request's valid session id, or "". Looking a random 256-bit id up in a map reveals nothing that helps to
// guess another.
func (g *gate) session(r *http.Request) string {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return ""
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if expiry, ok := g.sessions[c.Value]; !ok || time.Now().After(expiry) {
		return ""
	}
	return c.Value
}

// remember adds a session, and drops the one that would end first when there are too many.
func (g *gate) remember(id string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.sessions) >= maxSessions {
		var oldest string
		for s, expiry := range g.sessions {
			if oldest == "" || expiry.Before(g.sessions[oldest]) {
				oldest = s
			}
		}
		delete(g.sessions, oldest)
	}
	g.sessions[id] = now.Add(sessionLife)
}

func (g *gate) forget(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.sessions, id)
}

// refuse shows the sign-in page to people and says no to programs.
func refuse(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/api/") || (r.Method != http.MethodGet && r.Method != http.MethodHead) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"message":"sign in first"}` + "\n"))
		return
	}
	page(w, http.StatusUnauthorized, "")
}

// page writes the sign-in page. message is one of ours and holds nothing from the request.
func page(w http.ResponseWriter, status int, message string) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(strings.Replace(signInPage, "{{message}}", message, 1)))
}
