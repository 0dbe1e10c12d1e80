//go:build !slim

package temporalserver

// UIRoutes gives tests the web interface as it is behind the gate.
var UIRoutes = uiRoutes
