/* SPDX-License-Identifier: MIT */
/*
 * Between copy.c and signals.c: where a guarded copy may fault and where it goes on then.
 */
#ifndef AV_UAPI_UAPI_PRIV_H
#define AV_UAPI_UAPI_PRIV_H

#include "base/base.h"

/* The only instruction of the guarded copy that touches memory, and where it goes on after a fault.
 */
extern const char uapi_copy_insn[], uapi_copy_fault[];

#endif
