/* A stand-in for NVIDIA's libnvidia-ml.so.1, so that the real Python binding is exercised without a GPU.
 *
 * FAKE_NVML picks the machine: "two" (GPU 0 knows everything, GPU 1 hardly anything), "mig" (GPU 0 is split in two),
 * "lost" (GPU 1 falls off the bus after the start), "gone" (GPU 1 is lost from the start), "old" (an older driver),
 * "nodriver". */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, NO_DRIVER = 9, TIMEOUT = 10,
       NO_FUNCTION = 13, LOST = 15 };

typedef struct { int index, is_instance; const char *uuid, *name; } device;
static device gpus[2] = {{0, 0, "GPU-0000", "Fake H100"}, {1, 0, "GPU-1111", "Fake T4"}};
static device instances[2] = {{0, 1, "MIG-aaaa", "Fake H100 MIG 1g"}, {1, 1, "MIG-bbbb", "Fake H100 MIG 1g"}};
static int reads, waits;

static int is(const char *machine) { const char *set = getenv("FAKE_NVML"); return set && !strcmp(set, machine); }
static int bare(const device *gpu) { return gpu->index == 1 && !gpu->is_instance; }

#define ASK(gpu) do { if (is("lost") && bare(gpu) && reads > 0) return LOST; if (bare(gpu)) return NOT_SUPPORTED; } while (0)

const char *nvmlErrorString(int code) {
  switch (code) {
    case NOT_SUPPORTED: return "Not Supported";
    case NO_DRIVER: return "Driver Not Loaded";
    case TIMEOUT: return "Timeout";
    case LOST: return "GPU is lost";
    default: return "Unknown Error";
  }
}
int nvmlInitWithFlags(unsigned flags) { (void)flags; return is("nodriver") ? NO_DRIVER : OK; }
int nvmlShutdown(void) { return OK; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { strncpy(text, "570.1", size); return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **gpu) {
  if (index > 1) return INVALID_ARGUMENT;
  if (index == 1 && is("gone")) return LOST;
  *gpu = &gpus[index];
  return OK;
}
int nvmlDeviceGetUUID(device *gpu, char *text, unsigned size) { strncpy(text, gpu->uuid, size); return OK; }
int nvmlDeviceGetName(device *gpu, char *text, unsigned size) { strncpy(text, gpu->name, size); return OK; }

typedef struct { unsigned gpu, memory; } rates;
int nvmlDeviceGetUtilizationRates(device *gpu, rates *out) {
  if (gpu->index == 0) reads++;
  ASK(gpu); out->gpu = 75; out->memory = 40; return OK;
}
typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
int nvmlDeviceGetMemoryInfo(device *gpu, memory_v1 *out) {
  if (is("lost") && bare(gpu) && reads > 0) return LOST;
  out->total = 16000; out->used = 5000; out->free = 11000; return OK;
}
int nvmlDeviceGetMemoryInfo_v2(device *gpu, memory_v2 *out) {
  if (is("old") || bare(gpu)) return NOT_SUPPORTED;
  if (out->version != 0x02000028) return INVALID_ARGUMENT;
  out->total = gpu->is_instance ? 10000 : 80000; out->reserved = 600; out->used = gpu->is_instance ? 900 : 30000;
  out->free = out->total - out->used - out->reserved; return OK;
}
int nvmlDeviceGetTemperature(device *gpu, int sensor, unsigned *out) { (void)sensor; ASK(gpu); *out = 61; return OK; }
typedef struct { unsigned version; int degrees; } margin;
int nvmlDeviceGetMarginTemperature(device *gpu, margin *out) {
  if (is("old")) return NOT_SUPPORTED;
  ASK(gpu); if (out->version != 0x1000008) return INVALID_ARGUMENT; out->degrees = 26; return OK;
}
int nvmlDeviceGetTemperatureThreshold(device *gpu, int which, unsigned *out) {
  ASK(gpu); if (which != 1) return INVALID_ARGUMENT; *out = 90; return OK;
}
int nvmlDeviceGetPowerUsage(device *gpu, unsigned *out) { ASK(gpu); *out = 351500; return OK; }
int nvmlDeviceGetEnforcedPowerLimit(device *gpu, unsigned *out) { ASK(gpu); *out = 700000; return OK; }
int nvmlDeviceGetTotalEnergyConsumption(device *gpu, unsigned long long *out) { ASK(gpu); *out = 9000000123ULL; return OK; }
int nvmlDeviceGetClockInfo(device *gpu, int which, unsigned *out) {
  ASK(gpu); *out = which == 1 ? 1755 : which == 2 ? 2619 : 1750; return OK;
}
int nvmlDeviceGetCurrentClocksEventReasons(device *gpu, unsigned long long *out) {
  if (is("old")) return NOT_SUPPORTED;
  ASK(gpu); *out = 0x4 | 0x40; return OK;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(device *gpu, unsigned long long *out) { ASK(gpu); *out = 0x8; return OK; }
int nvmlDeviceGetTotalEccErrors(device *gpu, int kind, int counting, unsigned long long *out) {
  ASK(gpu); *out = 10 * kind + counting + 1; return OK;
}
int nvmlDeviceGetRemappedRows(device *gpu, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
  ASK(gpu); *corrected = 3; *uncorrected = 1; *pending = 1; *failed = 0; return OK;
}
int nvmlDeviceGetPcieThroughput(device *gpu, int way, unsigned *out) { ASK(gpu); *out = way ? 2000 : 1000; return OK; }
int nvmlDeviceGetPcieReplayCounter(device *gpu, unsigned *out) { ASK(gpu); *out = 7; return OK; }
int nvmlDeviceGetNvLinkState(device *gpu, unsigned link, unsigned *out) {
  ASK(gpu); if (link > 1) return INVALID_ARGUMENT; *out = link == 0; return OK;
}
int nvmlDeviceGetNvLinkErrorCounter(device *gpu, unsigned link, int kind, unsigned long long *out) {
  ASK(gpu); if (kind == 1) return NOT_SUPPORTED; *out = 100 * link + kind; return OK;
}
typedef union { double d; unsigned u; unsigned long long ull; int i; } value;
typedef struct { unsigned id, scope; long long timestamp, latency; int type, code; value value; } field;
int nvmlDeviceGetFieldValues(device *gpu, int count, field *out) {
  ASK(gpu);
  for (int i = 0; i < count; i++) {
    out[i].code = OK;
    if (out[i].id == 82) { out[i].type = 1; out[i].value.u = 70; }
    else if (out[i].id == 138 && is("old")) { out[i].type = 3; out[i].value.ull = 4 + out[i].scope; }
    else if (out[i].id == 139 && is("old")) { out[i].type = 3; out[i].value.ull = 8; }
    else if (out[i].id == 202 && !is("old")) { out[i].type = 3; out[i].value.ull = 5000000000ULL + out[i].scope; }
    else if (out[i].id == 204 && !is("old")) { out[i].type = 3; out[i].value.ull = 6000000000ULL; }
    else out[i].code = NOT_SUPPORTED;
  }
  return OK;
}
int nvmlDeviceGetMigMode(device *gpu, unsigned *now, unsigned *next) { ASK(gpu); *now = *next = is("mig"); return OK; }
int nvmlDeviceGetMaxMigDeviceCount(device *gpu, unsigned *out) { ASK(gpu); *out = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(device *gpu, unsigned index, device **out) {
  ASK(gpu); if (index != 0 && index != 3) return NOT_FOUND; *out = &instances[index == 3]; return OK;
}
typedef struct { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; } process;
int nvmlDeviceGetComputeRunningProcesses_v3(device *gpu, unsigned *count, process *out) {
  ASK(gpu);
  if (!out) { *count = 2; return TOO_SMALL; }
  *count = 2;
  out[0].pid = (unsigned)getpid(); out[0].memory = 20000;
  out[1].pid = 4194305; out[1].memory = ~0ULL; /* in another namespace, and of unknown size */
  return OK;
}

int nvmlEventSetCreate(void **set) { *set = &waits; return OK; }
int nvmlEventSetFree(void *set) { (void)set; return OK; }
int nvmlDeviceRegisterEvents(device *gpu, unsigned long long kinds, void *set) {
  (void)set; if (bare(gpu) && is("old")) return NOT_SUPPORTED; return kinds == 8 ? OK : INVALID_ARGUMENT;
}
typedef struct { device *gpu; unsigned long long kind, data; unsigned gpu_instance, compute_instance; } event;
int nvmlEventSetWait_v2(void *set, event *out, unsigned timeout_ms) {
  static const int xids[3] = {48, 48, 79};
  (void)set;
  if (waits >= 3) { usleep(1000 * (timeout_ms < 20 ? timeout_ms : 20)); return TIMEOUT; }
  out->gpu = &gpus[waits == 2]; out->kind = 8; out->data = xids[waits]; waits++;
  return OK;
}
