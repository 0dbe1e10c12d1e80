// The library of an old driver: one device, and only the functions that every version has.
#include <stdio.h>
#include <string.h>

typedef struct { unsigned long long total, free, used; } memory;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci;

static int users;

int nvmlInit_v2(void) { users++; return 0; }
int nvmlShutdown(void) { if (!users) return 1; users--; return 0; }
const char *nvmlErrorString(int code) { (void)code; return "?"; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { snprintf(out, size, "390.1"); return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 1; return users ? 0 : 1; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **out) { *out = &users; return i ? 2 : 0; }
int nvmlDeviceGetUUID(void *d, char *out, unsigned size) { (void)d; snprintf(out, size, "GPU-old"); return 0; }
int nvmlDeviceGetName(void *d, char *out, unsigned size) { (void)d; snprintf(out, size, "Tesla P100"); return 0; }
int nvmlDeviceGetMemoryInfo(void *d, memory *m) { (void)d; m->total = 16ULL << 30; m->used = 1ULL << 30; m->free = 15ULL << 30; return 0; }
int nvmlDeviceGetPciInfo_v3(void *d, pci *p) { (void)d; memset(p, 0, sizeof *p); strcpy(p->bus_id, "00000000:1b:00.0"); return 0; }
int nvmlDeviceGetPowerUsage(void *d, unsigned *milliwatts) { (void)d; *milliwatts = 123000; return 0; }
int nvmlEventSetCreate(void **set) { *set = &users; return 0; }
int nvmlEventSetFree(void *set) { (void)set; return 0; }
