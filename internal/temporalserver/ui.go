//go:build !slim

package temporalserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/temporalio/ui-server/v2/server/api"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	uiheaders "github.com/temporalio/ui-server/v2/server/headers"
	"github.com/temporalio/ui-server/v2/server/route"
	"github.com/temporalio/ui-server/v2/ui"
)

// uiStopTimeout bounds the wait for open pages when the server stops.
const uiStopTimeout = 2 * time.Second

// webUI serves Temporal's web interface behind the sign-in gate.
//
// The interface's own server type would open a second port and end the process when it cannot; here its routes are put
// together in memory instead, so that the gate is the only way to them. They hold no token: without the Authorization header
// that the gate adds after sign-in they can serve pages and nothing else, since the frontend refuses what they forward.
type webUI struct {
	listener net.Listener
	server   *http.Server
}

func newUI(namespace, frontend, address, token string) (*webUI, error) {
	pages, err := uiRoutes(namespace, frontend)
	if err != nil {
		return nil, fmt.Errorf("web interface: %w", err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("web interface: %w: choose another port with --ui-port", err)
	}
	return &webUI{listener, &http.Server{Handler: newGate(pages, token, address), ReadHeaderTimeout: 10 * time.Second}}, nil
}

func (u *webUI) serve() error {
	if err := u.server.Serve(u.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (u *webUI) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), uiStopTimeout)
	defer cancel()
	if err := u.server.Shutdown(ctx); err != nil {
		return u.server.Close()
	}
	return nil
}

// uiRoutes is the interface without a listener: pages, and an API that forwards to the frontend with the caller's
// Authorization header.
func uiRoutes(namespace, frontend string) (http.Handler, error) {
	provider, err := uiconfig.NewConfigProviderWithRefresh(&uiconfig.Config{
		TemporalGRPCAddress: frontend, DefaultNamespace: namespace, EnableUI: true, HideLogs: true,
		// Neither news nor versions are fetched: the interface makes no outside request.
		DisableNewsFetch: true, NotifyOnNewVersion: false,
	})
	if err != nil {
		return nil, err
	}
	assets, err := ui.Assets()
	if err != nil {
		return nil, err
	}
	if assets, err = fs.Sub(assets, "local"); err != nil {
		return nil, err
	}
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.Use(middleware.Recover(), middleware.Gzip(), middleware.Secure())
	// Its own cross-site guard stands aside for requests with an Authorization header, which is all of ours: the gate has one.
	forward := []api.Middleware{uiheaders.WithForwardHeaders([]string{"Caller-Type"})}
	if err := route.SetAPIRoutes(e, provider, forward); err != nil {
		return nil, err
	}
	if err := route.SetUIRoutes(e, "", assets, provider); err != nil {
		return nil, err
	}
	route.SetRenderRoute(e, "/")
	return e, nil
}
