// Package telemetry keeps the metrics of one process and serves them to Prometheus. [New] makes them, the
// [Metrics] hear what activities do and ask a device agent how its devices are, [Metrics.SDK] takes what the
// Temporal SDK measures, and a [Server] answers scrapes on one address and writes down where it is.
//
// Every metric of ours is a line in [Table], which the documentation is made from. Labels have few values: runs,
// methods, roles, devices, environments, tools and words of this program, never tasks, groups or trajectories.
// The series of a run go some time after it has ended.
//
// It measures and decides nothing, pushes nothing anywhere, and knows no dashboard.
package telemetry
