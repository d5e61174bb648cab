// SPDX-License-Identifier: MIT
/*
 * The preloaded object's constructor: finds the next library's functions, opens the log.
 */
#include "shim_priv.h"
#include "base/log.h"
#include "uapi/signals.h"

#include <dlfcn.h>
#include <signal.h>

struct shim_next shim_next;

void shim_resolve(void)
{
	int saved = errno;

#define SHIM_NEXT_LOOKUP(name, ret, args) *(void **)&shim_next.name = dlsym(RTLD_NEXT, #name);
	SHIM_NEXT_LIST(SHIM_NEXT_LOOKUP)
	errno = saved;
}

static __attribute__((constructor)) void shim_start(void)
{
	shim_resolve();
	/* Loaded by dlopen() for its C API alone, the library sees none of the client's calls. */
	if (dlsym(RTLD_DEFAULT, "sigaction") == (void *)sigaction)
		uapi_signals_interposed();
	av_log_init();
}
