//go:build !slim

package temporalserver

import (
	"time"

	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/membership/static"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives"
)

const (
	clusterName = "active"
	disabled    = "disabled"
	// pollRPS is how often one shard's queue may be polled. The default of 20 makes every task wait up to 50 ms, since there is
	// one shard; 200 brought task latency from 43 ms to 2 ms and still leaves some batching under load.
	pollRPS = 200
)

type staticHosts = map[primitives.ServiceName]static.Hosts

func singleHost(port int) static.Hosts { return static.SingleLocalHost(loopback(port)) }

// dynamicConfig holds the settings that differ from Temporal's defaults, which are made for many machines.
func dynamicConfig() dynamicconfig.StaticClient {
	return dynamicconfig.StaticClient{
		dynamicconfig.TransferProcessorMaxPollRPS.Key():   pollRPS,
		dynamicconfig.TimerProcessorMaxPollRPS.Key():      pollRPS,
		dynamicconfig.VisibilityProcessorMaxPollRPS.Key(): pollRPS,
		dynamicconfig.OutboundProcessorMaxPollRPS.Key():   pollRPS,
		// With several partitions a task can land where no worker is polling.
		dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():  1,
		dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(): 1,
		// Fairness keys do nothing without it.
		dynamicconfig.MatchingEnableFairness.Key(): true,
		// Status pages and the web interface share this budget.
		dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(): 100,
		// The server would ask the internet for newer versions of itself.
		dynamicconfig.EnableServerVersionCheck.Key(): false,
	}
}

// serverConfig describes one process that runs all services on one SQLite database and listens on 127.0.0.1 only.
func serverConfig(store *config.SQL, p ports) *config.Config {
	return &config.Config{
		Global: config.Global{Membership: config.Membership{MaxJoinDuration: 30 * time.Second, BroadcastAddress: localhost}},
		Persistence: config.Persistence{
			DefaultStore: sqliteplugin.PluginName, VisibilityStore: sqliteplugin.PluginName,
			// More shards gain nothing on one database connection.
			NumHistoryShards: 1,
			DataStores:       map[string]config.DataStore{sqliteplugin.PluginName: {SQL: store}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10, MasterClusterName: clusterName, CurrentClusterName: clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{clusterName: {
				Enabled: true, InitialFailoverVersion: 1, RPCAddress: loopback(p.Frontend), HTTPAddress: loopback(p.http),
			}},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Services: map[string]config.Service{
			string(primitives.FrontendService): service(p.Frontend, p.http),
			// The internal frontend believes every caller that has the internal certificate. It must not get an HTTP port: that
			// would be served without TLS, an open door.
			string(primitives.InternalFrontendService): service(p.internalFrontend, 0),
			string(primitives.HistoryService):          service(p.history, 0),
			string(primitives.MatchingService):         service(p.matching, 0),
			string(primitives.WorkerService):           service(p.worker, 0),
		},
		Archival: config.Archival{
			History:    config.HistoryArchival{State: disabled},
			Visibility: config.VisibilityArchival{State: disabled},
		},
		NamespaceDefaults: config.NamespaceDefaults{Archival: config.ArchivalNamespaceDefaults{
			History:    config.HistoryArchivalNamespaceDefaults{State: disabled},
			Visibility: config.VisibilityArchivalNamespaceDefaults{State: disabled},
		}},
	}
}

func service(grpcPort, httpPort int) config.Service {
	return config.Service{RPC: config.RPC{GRPCPort: grpcPort, HTTPPort: httpPort, BindOnIP: localhost}}
}
