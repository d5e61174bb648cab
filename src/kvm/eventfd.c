/* SPDX-License-Identifier: MIT */
/*
 * irqfd (an eventfd raises an interrupt) and ioeventfd (a guest's write signals an eventfd).
 *
 * Each registration holds a descriptor of its own for the client's eventfd, so that it goes on
 * working when the client closes or recycles the number. Two numbers are the same eventfd when the
 * kernel says so, see eventfd_same().
 *
 * ioeventfds: an immutable sorted table, replaced under vm->lock, read by vCPU threads inside their
 * epoch. irqfds: a list changed under vm->lock and irqfds->lock; the latter is a leaf and all that
 * kvm_irqfd_ack() takes. Interrupts are raised on the fd service thread, which takes no lock of
 * kvm/.
 */
#include "kvm/vm_ioctls.h"
#include "uapi/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#define IOEVENTFD_FLAGS                                                                            \
	(KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN)

/* ---- eventfds ---- */

struct eventfd {
	int fd; /* ours */
	u32 id; /* the kernel's number for it (fdinfo's eventfd-id); 0: this kernel or this jail
		   does not tell */
};

/* -EINVAL: no eventfd. Where /proc is out of reach, any anonymous file passes. */
static int eventfd_identify(struct eventfd *ev)
{
	char path[40], text[512], *id;
	long n;
	int fd;

	ev->id = 0;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", ev->fd);
	fd = sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = sys(SYS_read, fd, text, sizeof(text) - 1);
	sys(SYS_close, fd);
	if (n <= 0)
		return 0;
	text[n] = 0;
	if (!strstr(text, "eventfd-count:"))
		return -EINVAL;
	id = strstr(text, "eventfd-id:");
	if (id)
		ev->id = strtoul(id + strlen("eventfd-id:"), NULL, 10) + 1;
	return 0;
}

static void eventfd_put(struct eventfd *ev)
{
	sys(SYS_close, ev->fd);
}

/* -EBADF, -EINVAL, -EMFILE. */
static int eventfd_get(int fd, struct eventfd *ev)
{
	int rc;

	ev->fd = sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0);
	if (ev->fd < 0)
		return ev->fd;
	rc = eventfd_identify(ev);
	if (rc)
		eventfd_put(ev);
	return rc;
}

static bool eventfd_same(const struct eventfd *a, const struct eventfd *b)
{
	long pid;

	if (a->id && b->id)
		return a->id == b->id;
	pid = sys(SYS_getpid, 0);
	return sys(SYS_kcmp, pid, pid, KCMP_FILE, a->fd, b->fd) == 0;
}

static void eventfd_signal(const struct eventfd *ev)
{
	const u64 one = 1;

	sys(SYS_write, ev->fd, &one, sizeof(one));
}

/* Takes the count if there is one. Never waits: the client may have read it in the meantime, on a
 * blocking fd. */
static bool eventfd_take(const struct eventfd *ev)
{
	u64 count;
	struct iovec iov = {&count, sizeof(count)};
	struct pollfd p = {.fd = ev->fd, .events = POLLIN};
	long n = sys(SYS_preadv2, ev->fd, &iov, 1, -1L, -1L, RWF_NOWAIT);

	if (n != -EOPNOTSUPP && n != -ENOSYS)
		return n == sizeof(count);
	return sys(SYS_poll, &p, 1, 0) == 1 &&
	       sys(SYS_read, ev->fd, &count, sizeof(count)) == sizeof(count);
}

/* ---- ioeventfd ---- */

struct ioeventfd {
	struct av_epoch_item retired;
	u64 addr, datamatch;
	u32 len; /* 0: any length */
	bool pio, wildcard;
	struct eventfd ev;
};

struct kvm_ioeventfds {
	struct av_epoch_item retired;
	u32 nr;
	struct ioeventfd *e[]; /* by bus, then address */
};

static void ioeventfd_free(struct av_epoch_item *item)
{
	struct ioeventfd *p = container_of(item, struct ioeventfd, retired);

	eventfd_put(&p->ev);
	free(p);
}

static void ioeventfds_free(struct av_epoch_item *item)
{
	free(container_of(item, struct kvm_ioeventfds, retired));
}

/* The first entry at or after (pio, addr). */
static u32 ioeventfd_lower_bound(const struct kvm_ioeventfds *t, u64 addr, bool pio)
{
	u32 lo = 0, hi = t->nr, mid;

	while (lo < hi) {
		mid = (lo + hi) / 2;
		if (t->e[mid]->pio < pio || (t->e[mid]->pio == pio && t->e[mid]->addr < addr))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool ioeventfd_takes(const struct ioeventfd *p, const void *data, u32 size)
{
	u64 value = 0;

	if (!p->len)
		return true;
	if (size != p->len)
		return false;
	memcpy(&value, data, size);
	return p->wildcard || value == p->datamatch;
}

bool kvm_ioeventfd_write(struct kvm_vm *vm, u64 addr, const void *data, u32 size, bool pio)
{
	const struct kvm_ioeventfds *t = LOAD_ACQUIRE(vm->ioeventfds);
	u32 i;

	if (!t)
		return false;
	for (i = ioeventfd_lower_bound(t, addr, pio);
	     i < t->nr && t->e[i]->pio == pio && t->e[i]->addr == addr; i++) {
		if (ioeventfd_takes(t->e[i], data, size)) {
			eventfd_signal(&t->e[i]->ev);
			return true;
		}
	}
	return false;
}

/* Would one write signal both? */
static bool ioeventfd_collide(const struct ioeventfd *a, const struct ioeventfd *b)
{
	if (a->pio != b->pio || a->addr != b->addr)
		return false;
	if (!a->len || !b->len)
		return true;
	return a->len == b->len && (a->wildcard || b->wildcard || a->datamatch == b->datamatch);
}

/* Replaces the table by one with `add` put in and the entry at index `drop` left out. Either may be
 * absent (NULL, -1). */
static int ioeventfds_replace(struct kvm_vm *vm, struct ioeventfd *add, s64 drop)
{
	struct kvm_ioeventfds *old = vm->ioeventfds, *new = NULL;
	u32 i, nr = old ? old->nr : 0, at = nr;

	if (add || nr > 1) {
		new = malloc(sizeof(*new) + (nr + 1) * sizeof(new->e[0]));
		if (!new)
			return -ENOMEM;
		new->retired.free = ioeventfds_free;
		new->nr = 0;
		if (add && old)
			at = ioeventfd_lower_bound(old, add->addr, add->pio);
		for (i = 0; i <= nr; i++) {
			if (add && i == at)
				new->e[new->nr++] = add;
			if (i < nr && i != drop)
				new->e[new->nr++] = old->e[i];
		}
	}
	STORE_RELEASE(vm->ioeventfds, new);
	if (drop >= 0)
		av_epoch_retire(&vm->epoch, &old->e[drop]->retired);
	if (old)
		av_epoch_retire(&vm->epoch, &old->retired);
	av_epoch_reclaim(&vm->epoch);
	return 0;
}

static int ioeventfd_assign(struct kvm_vm *vm, const struct kvm_ioeventfd *args)
{
	const struct kvm_ioeventfds *t = vm->ioeventfds;
	struct ioeventfd *p;
	u32 i;
	int rc;

	if (args->len > 8 || (args->len & (args->len - 1)) || args->addr + args->len < args->addr ||
	    (!args->len && args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH))
		return -EINVAL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	rc = eventfd_get(args->fd, &p->ev);
	if (rc) {
		free(p);
		return rc;
	}
	p->retired.free = ioeventfd_free;
	p->addr = args->addr;
	p->len = args->len;
	p->pio = args->flags & KVM_IOEVENTFD_FLAG_PIO;
	p->wildcard = !(args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH);
	p->datamatch = args->datamatch;

	for (i = 0; t && i < t->nr && !rc; i++)
		if (ioeventfd_collide(t->e[i], p))
			rc = -EEXIST;
	if (!rc)
		rc = ioeventfds_replace(vm, p, -1);
	if (rc)
		ioeventfd_free(&p->retired);
	return rc;
}

static int ioeventfd_deassign(struct kvm_vm *vm, const struct kvm_ioeventfd *args)
{
	const struct kvm_ioeventfds *t = vm->ioeventfds;
	bool wildcard = !(args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH);
	bool pio = args->flags & KVM_IOEVENTFD_FLAG_PIO;
	const struct ioeventfd *p;
	struct eventfd ev;
	u32 i;
	int rc = eventfd_get(args->fd, &ev);

	if (rc)
		return rc;
	rc = -ENOENT;
	for (i = 0; t && i < t->nr; i++) {
		p = t->e[i];
		if (p->pio != pio || p->addr != args->addr || p->len != args->len ||
		    p->wildcard != wildcard || (!wildcard && p->datamatch != args->datamatch) ||
		    !eventfd_same(&p->ev, &ev))
			continue;
		rc = ioeventfds_replace(vm, NULL, i);
		break;
	}
	eventfd_put(&ev);
	return rc;
}

int kvm_ioeventfd_set(struct kvm_vm *vm, const struct kvm_ioeventfd *args)
{
	if (args->flags & ~IOEVENTFD_FLAGS)
		return -EINVAL;
	return args->flags & KVM_IOEVENTFD_FLAG_DEASSIGN ? ioeventfd_deassign(vm, args)
							 : ioeventfd_assign(vm, args);
}

KVM_VM_IOCTL(kvm_vm_ioeventfd)
{
	return kvm_ioeventfd_set(vm, arg->data);
}

/* ---- irqfd ---- */

struct irqfd {
	struct irqfd *next;
	struct kvm_vm *vm;
	u32 gsi;
	bool resampled; /* a level: stays up until the guest's EOI, which signals `resample` */
	struct eventfd ev, resample;
	struct av_watch *watch;
};

struct kvm_irqfds {
	pthread_mutex_t lock;
	struct irqfd *head;
};

static void irqfd_ready(void *arg, u32 events)
{
	struct irqfd *p = arg;

	if (!eventfd_take(&p->ev))
		return;
	/* The device behind the eventfd has written guest memory without telling us. */
	x86_code_io_epoch(p->vm->code);
	if (p->resampled)
		irqchip_set_gsi(p->vm->ic, p->gsi, 1, IRQ_SOURCE_RESAMPLE);
	else
		irqchip_pulse_gsi(p->vm->ic, p->gsi, IRQ_SOURCE_USER);
}

static bool gsi_is_resampled(struct kvm_irqfds *t, u32 gsi, bool signal)
{
	struct irqfd *p;
	bool any = false;

	pthread_mutex_lock(&t->lock);
	for (p = t->head; p; p = p->next) {
		if (!p->resampled || p->gsi != gsi)
			continue;
		any = true;
		if (signal)
			eventfd_signal(&p->resample);
	}
	pthread_mutex_unlock(&t->lock);
	return any;
}

/* First the line goes down, then its devices are asked: an answer that comes at once raises it
 * again. */
void kvm_irqfd_ack(struct kvm_vm *vm, u32 gsi)
{
	struct kvm_irqfds *t = LOAD_ACQUIRE(vm->irqfds);

	if (!t || !gsi_is_resampled(t, gsi, false))
		return;
	irqchip_set_gsi(vm->ic, gsi, 0, IRQ_SOURCE_RESAMPLE);
	gsi_is_resampled(t, gsi, true);
}

static void irqfd_free(struct irqfd *p)
{
	av_watch_destroy(p->watch);
	if (p->resampled)
		eventfd_put(&p->resample);
	eventfd_put(&p->ev);
	free(p);
}

static int irqfds_make(struct kvm_vm *vm)
{
	struct kvm_irqfds *t;

	if (vm->irqfds)
		return 0;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	STORE_RELEASE(vm->irqfds, t);
	return 0;
}

static void irqfd_link(struct kvm_irqfds *t, struct irqfd *p)
{
	pthread_mutex_lock(&t->lock);
	p->next = t->head;
	t->head = p;
	pthread_mutex_unlock(&t->lock);
}

static void irqfd_unlink(struct kvm_irqfds *t, struct irqfd **at)
{
	pthread_mutex_lock(&t->lock);
	*at = (*at)->next;
	pthread_mutex_unlock(&t->lock);
}

static int irqfd_assign(struct kvm_vm *vm, const struct kvm_irqfd *args)
{
	bool resampled = args->flags & KVM_IRQFD_FLAG_RESAMPLE;
	struct irqfd *p, *other;
	int rc;

	if (resampled ? !irqchip_has_chips(vm->ic) : !kvm_irqchip_in_kernel(vm))
		return -EINVAL;
	rc = irqfds_make(vm);
	if (rc)
		return rc;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->vm = vm;
	p->gsi = args->gsi;
	rc = eventfd_get(args->fd, &p->ev);
	if (rc)
		goto free;
	if (resampled) {
		rc = eventfd_get(args->resamplefd, &p->resample);
		if (rc)
			goto put;
		p->resampled = true;
	}
	rc = -EBUSY;
	for (other = vm->irqfds->head; other; other = other->next)
		if (eventfd_same(&other->ev, &p->ev))
			goto put;
	/* In the list first: the watch may fire, and the guest answer, before its creation returns.
	 */
	irqfd_link(vm->irqfds, p);
	rc = av_watch_create(p->ev.fd, EPOLLIN, irqfd_ready, p, &p->watch);
	if (!rc)
		return 0;
	irqfd_unlink(vm->irqfds, &vm->irqfds->head);
put:
	if (p->resampled)
		eventfd_put(&p->resample);
	eventfd_put(&p->ev);
free:
	free(p);
	return rc;
}

/* Returns when no interrupt can come from that eventfd any more. That nothing matched is no error.
 */
static int irqfd_deassign(struct kvm_vm *vm, const struct kvm_irqfd *args)
{
	struct kvm_irqfds *t = vm->irqfds;
	struct irqfd **at, *p;
	struct eventfd ev;
	bool resampled;
	int rc = eventfd_get(args->fd, &ev);

	if (rc)
		return rc;
	for (at = t ? &t->head : NULL; at && *at;) {
		p = *at;
		if (p->gsi != args->gsi || !eventfd_same(&p->ev, &ev)) {
			at = &p->next;
			continue;
		}
		resampled = p->resampled;
		irqfd_unlink(t, at);
		irqfd_free(p);
		if (resampled && !gsi_is_resampled(t, args->gsi, false))
			irqchip_set_gsi(vm->ic, args->gsi, 0, IRQ_SOURCE_RESAMPLE);
	}
	eventfd_put(&ev);
	return 0;
}

int kvm_irqfd(struct kvm_vm *vm, const struct kvm_irqfd *args)
{
	if (args->flags & ~(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE))
		return -EINVAL;
	return args->flags & KVM_IRQFD_FLAG_DEASSIGN ? irqfd_deassign(vm, args)
						     : irqfd_assign(vm, args);
}

KVM_VM_IOCTL(kvm_vm_irqfd)
{
	return kvm_irqfd(vm, arg->data);
}

void kvm_eventfd_destroy(struct kvm_vm *vm)
{
	struct kvm_irqfds *irqfds = vm->irqfds;
	struct irqfd *p;
	u32 i;

	while (irqfds && irqfds->head) {
		p = irqfds->head;
		irqfd_unlink(irqfds, &irqfds->head);
		irqfd_free(p);
	}
	if (irqfds)
		pthread_mutex_destroy(&irqfds->lock);
	free(irqfds);
	for (i = 0; vm->ioeventfds && i < vm->ioeventfds->nr; i++)
		ioeventfd_free(&vm->ioeventfds->e[i]->retired);
	free(vm->ioeventfds);
}
