/* SPDX-License-Identifier: MIT */
/*
 * Reading CPUID tables in the tests of the public API.
 */
#ifndef AV_TESTS_CPUID_H
#define AV_TESTS_CPUID_H

#include "api.h"

/* Everything that is on offer; the caller frees it. */
static inline struct kvm_cpuid2 *all_cpuid(int dev)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));

	assert_non_null(c);
	c->nent = 256;
	ok(dev, KVM_GET_SUPPORTED_CPUID, c);
	return c;
}

static inline struct kvm_cpuid_entry2 *leaf(struct kvm_cpuid2 *c, u32 function, u32 index)
{
	for (u32 i = 0; i < c->nent; i++)
		if (c->entries[i].function == function && c->entries[i].index == index)
			return &c->entries[i];
	return NULL;
}

#endif
