//go:build !slim

package temporalserver_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/temporalserver"
)

func checkUI(t *testing.T, e connect.Endpoint) {
	raw, err := os.ReadFile(e.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(string(raw))
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	api := e.UIAddress + "/api/v1/namespaces/" + e.Namespace

	status, page := get(t, browser, e.UIAddress+"/namespaces/x/workflows")
	if status != http.StatusUnauthorized || !strings.Contains(page, "Install token") {
		t.Errorf("before sign-in: %d %.80s, expected 401 and the sign-in page", status, page)
	}
	if status, _ := get(t, browser, api); status != http.StatusUnauthorized {
		t.Errorf("API before sign-in: %d, expected 401", status)
	}
	if status, page := signIn(t, browser, e, "wrong"); status != http.StatusUnauthorized || !strings.Contains(page, "not this installation's token") {
		t.Errorf("sign-in with a wrong token: %d %.80s", status, page)
	}
	if len(jar.Cookies(parse(t, e.UIAddress))) != 0 {
		t.Error("a refused sign-in sets a cookie")
	}

	status, page = signIn(t, browser, e, token)
	if status != http.StatusOK || !strings.Contains(page, "<html") || strings.Contains(page, "Install token") {
		t.Fatalf("after sign-in: %d %.80s, expected the web interface", status, page)
	}
	if status, body := get(t, browser, api); status != http.StatusOK || !strings.Contains(body, e.Namespace) {
		t.Errorf("API after sign-in: %d %.80s, expected the namespace", status, body)
	}
	if status, _ := get(t, browser, e.UIAddress+"/api/v1/releases"); status != http.StatusNotFound {
		t.Errorf("release check: %d, expected 404: it would ask the internet", status)
	}
	for _, c := range jar.Cookies(parse(t, e.UIAddress)) {
		if strings.Contains(c.Value, token) {
			t.Errorf("cookie %s holds the token", c.Name)
		}
	}
	if status := forged(t, browser, api); status != http.StatusForbidden {
		t.Errorf("a write that another site started: %d, expected 403", status)
	}
}

// checkUIHoldsNoToken goes round the gate, which no network address allows: even there nothing is to be had.
func checkUIHoldsNoToken(t *testing.T, e connect.Endpoint) {
	routes, err := temporalserver.UIRoutes(e.Namespace, e.Address)
	if err != nil {
		t.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	routes.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/api/v1/namespaces/"+e.Namespace, nil))
	if recorder.Code != http.StatusForbidden {
		t.Errorf("the interface behind the gate answers %d %s, expected 403", recorder.Code, recorder.Body)
	}
}

func signIn(t *testing.T, browser *http.Client, e connect.Endpoint, token string) (int, string) {
	t.Helper()
	response, err := browser.PostForm(e.UIAddress+"/turnwise/sign-in", url.Values{"token": {token}})
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var page strings.Builder
	if err := response.Write(&page); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, page.String()
}

// forged sends what a page on another port of this machine could make a signed-in browser send.
func forged(t *testing.T, browser *http.Client, target string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Site", "same-site")
	r.Header.Set("Origin", "http://127.0.0.1:1")
	response, err := browser.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

func parse(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
