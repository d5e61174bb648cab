/* SPDX-License-Identifier: MIT */
/*
 * The /dev/kvm object: what the host as a whole offers, before there is a VM.
 *
 * Which capabilities, CPUID leaves and MSRs those are is decided elsewhere (caps.c, cpuid.c, msr.c
 * and the CPU); here they are only listed in the ABI's shapes. Holds no state: all /dev/kvm fds are
 * alike.
 */
#include "kvm/vcpu_priv.h"
#include "uapi/sys.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CPUID_ENTRIES 256
#define MAX_MSR_ENTRIES	  255 /* KVM refuses 256 and more */
#define MAX_LISTED_MSRS	  512

#define MSR_IA32_UCODE_REV	   0x8b
#define MSR_IA32_ARCH_CAPABILITIES 0x10a
#define MSR_IA32_TSC_DEADLINE	   0x6e0
#define MSR_AMD64_DE_CFG	   0xc0011029

/* ---- numbers ---- */

static KVM_HANDLER(get_api_version)
{
	return arg->value ? -EINVAL : KVM_API_VERSION;
}

static KVM_HANDLER(get_vcpu_mmap_size)
{
	return arg->value ? -EINVAL : (long)(KVM_AV_RUN_PAGES * PAGE_SIZE);
}

static KVM_HANDLER(create_vm)
{
	return kvm_vm_create_fd(arg->value);
}

static KVM_HANDLER(check_extension)
{
	return kvm_check_extension(NULL, arg->value);
}

static KVM_HANDLER(get_mce_cap_supported)
{
	*(u64 *)arg->data = kvm_mce_cap();
	return 0;
}

/* ---- lists: any room is welcome, too little is -E2BIG with the number needed ---- */

static long msr_list_out(struct uapi_arg *arg, const u32 *msrs, u32 n)
{
	struct kvm_msr_list *list = arg->data;
	u32 room = list->nmsrs;

	list->nmsrs = n;
	if (room < n)
		return -E2BIG;
	return uapi_copy_out(arg->value + sizeof(*list), msrs, n * sizeof(*msrs));
}

/* MSRs that kvm/ keeps rather than the CPU, and that a VMM has to save. */
static const u32 kvm_msrs_to_save[] = {
	MSR_KVM_SYSTEM_TIME,	MSR_KVM_WALL_CLOCK,    MSR_KVM_SYSTEM_TIME_NEW,
	MSR_KVM_WALL_CLOCK_NEW, MSR_IA32_TSC_DEADLINE, MSR_KVM_POLL_CONTROL,
	MSR_KVM_STEAL_TIME,
};

static KVM_HANDLER(get_msr_index_list)
{
	u32 msrs[MAX_LISTED_MSRS], n;

	memcpy(msrs, kvm_msrs_to_save, sizeof(kvm_msrs_to_save));
	n = ARRAY_SIZE(kvm_msrs_to_save);
	n += x86_msr_list(msrs + n, MAX_LISTED_MSRS - n);
	return msr_list_out(arg, msrs, MIN(n, MAX_LISTED_MSRS));
}

/* LFENCE waits for all that stands before it: an emulated CPU cannot do otherwise. */
static u64 amd_de_cfg(void)
{
	return BIT64(1);
}

/* MSRs that describe the processor; a VMM reads them here and offers them to guests. */
static const struct {
	u32 msr;
	u64 (*value)(void);
	bool amd_only;
} feature_msrs[] = {
	{MSR_IA32_UCODE_REV, kvm_ucode_rev},
	{MSR_IA32_ARCH_CAPABILITIES, kvm_arch_capabilities},
	{MSR_AMD64_DE_CFG, amd_de_cfg, true},
};

static bool has_feature_msr(u32 i)
{
	return !feature_msrs[i].amd_only || kvm_personality_amd();
}

static KVM_HANDLER(get_msr_feature_index_list)
{
	u32 msrs[ARRAY_SIZE(feature_msrs)], i, n = 0;

	for (i = 0; i < ARRAY_SIZE(feature_msrs); i++)
		if (has_feature_msr(i))
			msrs[n++] = feature_msrs[i].msr;
	return msr_list_out(arg, msrs, n);
}

static bool feature_msr(u32 msr, u64 *value)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(feature_msrs); i++) {
		if (feature_msrs[i].msr != msr || !has_feature_msr(i))
			continue;
		*value = feature_msrs[i].value();
		return true;
	}
	return false;
}

/* Returns how many could be read; stops at the first that is none of the feature MSRs. */
static KVM_HANDLER(get_feature_msrs)
{
	struct kvm_msrs *msrs = arg->data;
	u32 i;

	for (i = 0; i < arg->tail_count; i++) {
		u64 value;

		if (!feature_msr(msrs->entries[i].index, &value))
			break;
		msrs->entries[i].data = value;
	}
	return i;
}

static long cpuid_out(struct uapi_arg *arg, const struct kvm_cpuid_entry2 *entries, u32 n)
{
	struct kvm_cpuid2 *list = arg->data;

	if (MIN(list->nent, MAX_CPUID_ENTRIES) < MAX(n, 1u))
		return -E2BIG;
	list->nent = n;
	return uapi_copy_out(arg->value + sizeof(*list), entries, n * sizeof(*entries));
}

static KVM_HANDLER(get_supported_cpuid)
{
	u32 n;
	const struct kvm_cpuid_entry2 *entries = kvm_supported_cpuid(&n);

	return entries ? cpuid_out(arg, entries, n) : -ENOMEM;
}

/* Alone among the lists, this one wants the padding of the entries that it fills to be zero. */
static long cpuid_padding_is_zero(const struct uapi_arg *arg)
{
	const struct kvm_cpuid2 *list = arg->data;
	u64 at = arg->value + sizeof(*list);
	struct kvm_cpuid_entry2 e;
	u32 i;

	for (i = 0; i < MIN(list->nent, MAX_CPUID_ENTRIES); i++, at += sizeof(e)) {
		if (uapi_copy_in(&e, at, sizeof(e)))
			return -EINVAL;
		if (e.padding[0] || e.padding[1] || e.padding[2])
			return -EINVAL;
	}
	return 0;
}

static KVM_HANDLER(get_emulated_cpuid)
{
	u32 n;
	const struct kvm_cpuid_entry2 *entries = kvm_emulated_cpuid(&n);
	long rc = ((struct kvm_cpuid2 *)arg->data)->nent ? cpuid_padding_is_zero(arg) : -E2BIG;

	if (rc)
		return rc;
	return entries ? cpuid_out(arg, entries, n) : -ENOMEM;
}

/* ---- attributes ---- */

static long attr_known(const struct kvm_device_attr *a)
{
	return a->group || a->attr != KVM_X86_XCOMP_GUEST_SUPP ? -ENXIO : 0;
}

static KVM_HANDLER(has_device_attr)
{
	return attr_known(arg->data);
}

static KVM_HANDLER(get_device_attr)
{
	const struct kvm_device_attr *a = arg->data;
	u64 xcr0 = x86_host_xcr0();
	long rc = attr_known(a);

	return rc ? rc : uapi_copy_out(a->addr, &xcr0, sizeof(xcr0));
}

/* ---- the object ---- */

#define IN	UAPI_ARG_IN
#define IN_OUT	(UAPI_ARG_IN | UAPI_ARG_OUT)
#define OUT	UAPI_ARG_OUT
#define LISTING UAPI_OUT_ON_E2BIG

static const struct uapi_ioctl dev_ioctls[] = {
	UAPI_VALUE(KVM_GET_API_VERSION, get_api_version, 0),
	UAPI_VALUE(KVM_CREATE_VM, create_vm, 0),
	UAPI_STRUCT(KVM_GET_MSR_INDEX_LIST, struct kvm_msr_list, IN_OUT, get_msr_index_list,
		    LISTING),
	UAPI_VALUE(KVM_CHECK_EXTENSION, check_extension, 0),
	UAPI_VALUE(KVM_GET_VCPU_MMAP_SIZE, get_vcpu_mmap_size, 0),
	UAPI_STRUCT(KVM_GET_SUPPORTED_CPUID, struct kvm_cpuid2, IN_OUT, get_supported_cpuid, 0),
	UAPI_STRUCT(KVM_GET_EMULATED_CPUID, struct kvm_cpuid2, IN_OUT, get_emulated_cpuid, 0),
	UAPI_STRUCT(KVM_GET_MSR_FEATURE_INDEX_LIST, struct kvm_msr_list, IN_OUT,
		    get_msr_feature_index_list, LISTING),
	UAPI_TAIL(KVM_GET_MSRS, struct kvm_msrs, nmsrs, struct kvm_msr_entry, MAX_MSR_ENTRIES,
		  -E2BIG, IN_OUT, get_feature_msrs, 0),
	UAPI_STRUCT(KVM_X86_GET_MCE_CAP_SUPPORTED, u64, OUT, get_mce_cap_supported, 0),
	UAPI_STRUCT(KVM_GET_DEVICE_ATTR, struct kvm_device_attr, IN, get_device_attr, 0),
	UAPI_STRUCT(KVM_HAS_DEVICE_ATTR, struct kvm_device_attr, IN, has_device_attr, 0),
};

static void dev_release(struct uapi_object *obj)
{
	free(obj);
}

const struct uapi_type kvm_dev_type = {
	.name = "kvm",
	.ioctls = dev_ioctls,
	.nr_ioctls = ARRAY_SIZE(dev_ioctls),
	.release = dev_release,
	.any_process = true,
};

int kvm_dev_open(int oflags)
{
	struct uapi_object *obj = calloc(1, sizeof(*obj));
	int fd;

	if (!obj)
		return -ENOMEM;
	fd = uapi_object_open(obj, &kvm_dev_type, 0);
	if (fd < 0) {
		free(obj);
		return fd;
	}
	uapi_put(obj);
	/* open(2) keeps the fd over exec unless told otherwise. There it is a lifeless file, but
	 * its number stays taken. */
	if (!(oflags & O_CLOEXEC))
		sys(SYS_fcntl, fd, F_SETFD, 0);
	return fd;
}
