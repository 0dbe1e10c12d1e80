package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/turnwise-rl/turnwise/internal/chaos"
	"github.com/turnwise-rl/turnwise/internal/connect"
)

// site is a place where runs are carried by several processes: a data folder, a server and workers, each
// of which reaches the server through a proxy of its own.
type site struct {
	// app is the program with the site's data folder.
	app      *app
	client   client.Client
	endpoint connect.Endpoint
	// server is nil when the environment names a cluster.
	server   *keptServer
	stations []*station
	closeLog func() error
}

// station is one worker process and what can be done to it.
type station struct {
	*chaos.Process
	proxy *chaos.Proxy
	// faults is the file by which its tools are made to hang.
	faults string
	// fleet is the file of its fake devices; "" without. lost says that some are lost, and boot that their
	// work goes on elsewhere, so that they may be had back.
	fleet      string
	lost, boot bool
	// busy is set while a fault that lasts is at it: a second one would end with the first.
	busy bool
}

// crew is how many processes of each role a site has. There are two of what a run needs one of, so that
// another can take over from one that is frozen or cut off.
type crew struct {
	controllers, rollouts, learners int
	// fleets gives each process that trains or samples fake devices.
	fleets bool
}

// serveTimeout bounds the wait until all processes serve.
const serveTimeout = 2 * time.Minute

// openSite starts everything and waits until it serves.
func openSite(ctx context.Context, a *app, folder string, c crew) (*site, error) {
	s := &site{app: &app{in: a.in, out: a.out, err: a.err, dataDir: folder}}
	if err := s.app.makeDataDir(); err != nil {
		return nil, err
	}
	log, closeLog, err := s.app.openLog("chaos.log")
	if err != nil {
		return nil, err
	}
	s.closeLog = closeLog
	options := connect.Options{DataDir: folder, Logger: warnOnly(log)}
	if err := s.reach(ctx, options); err != nil {
		s.close()
		return nil, err
	}
	if err := connect.Preflight(ctx, s.client, s.endpoint); err != nil {
		s.close()
		return nil, err
	}
	err = s.man(c)
	if err == nil {
		err = s.awaitServing(ctx)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// reach connects this process with the server, past all proxies.
func (s *site) reach(ctx context.Context, options connect.Options) error {
	_, external, err := connect.FromEnvironment()
	if err != nil {
		return usageError{err}
	}
	if external {
		s.client, s.endpoint, err = connect.Dial(ctx, options)
		return err
	}
	if s.server, err = keepServer(ctx, connect.SpawnConfig{DataDir: options.DataDir, NoUI: true, Logger: options.Logger}); err != nil {
		return err
	}
	s.client, s.endpoint, err = connect.DialEmbedded(ctx, options)
	return err
}

// man starts the worker processes.
func (s *site) man(c crew) error {
	for _, part := range []struct {
		role  chaos.Role
		count int
	}{{chaos.Control, c.controllers}, {chaos.Learner, c.learners}, {chaos.Rollout, c.rollouts}} {
		for i := range part.count {
			if err := s.station(part.role, fmt.Sprintf("%s-%d", part.role, i+1), c.fleets && part.role != chaos.Control); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *site) station(role chaos.Role, name string, rigged bool) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	proxy, err := chaos.Listen(s.endpoint.Address)
	if err != nil {
		return err
	}
	one := &station{proxy: proxy, faults: filepath.Join(s.app.dataDir, name+".faults")}
	program := chaos.Program{Name: name, Role: role, Path: self, Log: filepath.Join(s.app.dataDir, name+".log"), Ready: "serving ",
		Args: []string{"worker", "--data", s.app.dataDir, "--roles", string(role), "--name", name, "--parent-pipe", "--faults", one.faults}}
	if rigged {
		args, err := one.rig(s.app.dataDir, name)
		if err != nil {
			return errors.Join(err, proxy.Close())
		}
		program.Args = append(program.Args, args...)
	}
	if s.server != nil {
		program.Args = append(program.Args, "--via", proxy.Address())
	} else if program.Env, err = clusterBehind(proxy.Address(), s.endpoint.Address); err != nil {
		return errors.Join(err, proxy.Close())
	}
	one.Process = chaos.Start(program)
	s.stations = append(s.stations, one)
	return nil
}

// clusterBehind is what the environment must say for a process to reach a cluster through a proxy. The
// certificate of a cluster is still that of its own name.
func clusterBehind(proxy, cluster string) ([]string, error) {
	profile, _, err := connect.FromEnvironment()
	if err != nil {
		return nil, err
	}
	env := []string{"TEMPORAL_ADDRESS=" + proxy}
	secret := profile.APIKey != "" // which turns TLS on unless it is turned off
	if profile.TLS != nil {
		secret = !profile.TLS.Disabled
	}
	if secret && (profile.TLS == nil || profile.TLS.ServerName == "") {
		env = append(env, "TEMPORAL_TLS_SERVER_NAME="+hostOf(cluster))
	}
	return env, nil
}

// awaitServing waits until every worker process serves.
func (s *site) awaitServing(ctx context.Context) error {
	deadline := time.After(serveTimeout)
	tick := time.NewTicker(chaosTick)
	defer tick.Stop()
	for _, one := range s.stations {
		for {
			if _, serving := one.Serving(); serving {
				break
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-deadline:
				return fmt.Errorf("%s does not serve after %v and %d starts: see %s", one.Name(), serveTimeout, len(one.Lives()), filepath.Join(s.app.dataDir, one.Name()+".log"))
			case <-tick.C:
			}
		}
	}
	return nil
}

// close stops everything and waits until it is gone.
func (s *site) close() {
	s.leave()
	if s.client != nil {
		s.client.Close()
	}
	if s.server != nil {
		s.server.stop()
	}
	_ = s.closeLog()
}

// leave stops the worker processes and waits until they are gone.
func (s *site) leave() {
	var leaving sync.WaitGroup
	for _, one := range s.stations {
		leaving.Go(func() {
			one.Stop()
			_ = one.proxy.Close()
		})
	}
	leaving.Wait()
	s.stations = nil
}

// keptServer is an embedded server that is kept alive for as long as the site is, however often it dies.
type keptServer struct {
	child *connect.Child
	end   context.CancelFunc
	ended chan struct{}

	mu      sync.Mutex
	again   context.CancelFunc // ends the supervision of one life
	serving time.Time          // since when the life under way serves
	err     error              // why it could not be kept alive
}

// keepServer starts a server of its own. One that runs already belongs to somebody else, who must not
// suffer.
func keepServer(ctx context.Context, config connect.SpawnConfig) (*keptServer, error) {
	k := &keptServer{ended: make(chan struct{}), serving: time.Now()}
	config.Report = k.hear
	child, err := connect.Spawn(ctx, config)
	if err != nil {
		return nil, err
	}
	if child.Attached {
		return nil, usagef("a server runs on data folder %s already, in process %d: stop it or choose another folder with --data", config.DataDir, child.Endpoint().PID)
	}
	k.child = child
	watching, end := context.WithCancel(context.WithoutCancel(ctx))
	k.end = end
	go k.keep(watching) // stop waits for it
	return k, nil
}

// keep supervises one life after another. A server that came back is not held against the next one: here
// somebody kills it on purpose, more often than supervision would bear.
func (k *keptServer) keep(ctx context.Context) {
	defer close(k.ended)
	for ctx.Err() == nil {
		life, again := context.WithCancel(ctx)
		k.mu.Lock()
		k.again = again
		k.mu.Unlock()
		err := k.child.Supervise(life)
		again()
		if err != nil {
			k.mu.Lock()
			k.err = err
			k.mu.Unlock()
			return
		}
	}
}

func (k *keptServer) hear(e connect.Event) {
	if e.Kind != connect.ServerRestarted && e.Kind != connect.ServerAttached {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.serving = time.Now()
	k.again()
}

// since is when the server that runs began to serve.
func (k *keptServer) since() (time.Time, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.serving, k.err
}

func (k *keptServer) stop() {
	_ = syscall.Kill(k.child.Endpoint().PID, syscall.SIGCONT) // in case it is frozen
	k.end()
	<-k.ended
	k.child.Stop()
}
