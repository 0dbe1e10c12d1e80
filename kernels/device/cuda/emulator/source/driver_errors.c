// The names of the emulated driver's errors.
#include <stddef.h>
#include "driver.h"

EXPORT result cuGetErrorName(int code, const char **name) {
	static const struct { int code; const char *name; } known[] = {
		{SUCCESS, "CUDA_SUCCESS"}, {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"}, {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
		{NO_DEVICE, "CUDA_ERROR_NO_DEVICE"}, {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"}, {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED"},
		{INVALID_PTX, "CUDA_ERROR_INVALID_PTX"}, {214, "CUDA_ERROR_ECC_UNCORRECTABLE"}, {46, "CUDA_ERROR_DEVICE_UNAVAILABLE"}, {999, "CUDA_ERROR_UNKNOWN"},
	};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (known[i].code == code) {
			*name = known[i].name;
			return SUCCESS;
		}
	*name = NULL;
	return INVALID_VALUE;
}
EXPORT result cuGetErrorString(int code, const char **text) {
	result r = cuGetErrorName(code, text);
	if (r == SUCCESS) *text = "as the emulated driver was told";
	return r;
}
