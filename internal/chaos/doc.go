// Package chaos breaks what a run stands on, watches how the run gets over it, and audits afterwards
// whether it kept its promises.
//
// [Plan] draws faults from a seed. A [Proxy] stands between a process and its server and cuts or delays
// what they say to each other; a [Process] is kept alive as a service manager would, and killed or
// frozen; the functions [FillDisk], [Damage] and [HangTools] do what their names say. A [Watch] reads a
// run's folder as any bystander can and notes each durable progress with its time, from which
// [Recovery] tells how long a fault held its victim's work up. [Audit] compares the journals, the
// manifests and the store of a run that has ended and lists every broken promise.
//
// The package starts no run and knows no workflow engine: what it judges by is on disk.
package chaos
