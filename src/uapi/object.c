// SPDX-License-Identifier: MIT
/*
 * Objects behind file descriptors: identity, the fd table, references, fork.
 *
 * Owns the map from fd number to object. Knows nothing of what the objects are, nor of ioctls
 * beyond keeping each type's index at hand.
 *
 * An entry of the fd table is one word: UNKNOWN (ask fstat), FOREIGN, CLOSED (ask fstat, and
 * remember only a "no"), or an object's address with a count of borrowers in the upper 16 bits.
 * Readers take no lock: they borrow by compare-and-swap, turn the loan into a reference of the
 * object, and give it back; whoever clears the entry turns the loans still out into references, so
 * a borrower that finds its loan gone drops one. Every change to or from an object's address, the
 * hash of identities and the nr_fds counters are under `lock`, which is held with all signals
 * blocked: a signal handler may therefore use every function here.
 *
 * FOREIGN is believed without asking again. That is right because each way by which one of our
 * files can get a new number (our own open, dup, fcntl, SCM_RIGHTS, pidfd_getfd, /proc/self/fd)
 * tells us. An object's address is believed because each way to close one tells us. Programs that
 * make system calls without libc bypass both, but then their ioctls do not come here either.
 *
 * A vfork child shares this memory but not the fds: it must not change entries (own_fds()). A
 * forked child owns a copy of both; it is told apart by a word in a page that the kernel wipes on
 * fork, which holds for clone(2) too.
 */
#include "uapi/object.h"
#include "uapi/cancel.h"
#include "uapi/ioctl.h"
#include "uapi/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define FD_UNKNOWN  0ull
#define FD_FOREIGN  1ull
#define FD_CLOSED   2ull
#define FD_TAGS	    8ull /* below: not an address */
#define FD_LOAN	    BIT64(48)
#define FD_ADDR(w)  ((struct uapi_object *)((w) & (FD_LOAN - 1)))
#define FD_LOANS(w) ((u32)((w) >> 48))
#define FD_MANY	    (1u << 24) /* more than there can be loans */

#define CHUNK_BITS 9
#define CHUNK_FDS  (1u << CHUNK_BITS)
#define NR_CHUNKS  2048u
#define MAX_FDS	   (NR_CHUNKS * CHUNK_FDS)

#define HASH_SIZE 256u

static u64 *chunks[NR_CHUNKS];
static struct uapi_object *hash[HASH_SIZE];
static u32 nr_objects; /* in the hash; read without the lock as "nothing to do" */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static u32 *process_word; /* wiped to 0 by fork */
static u32 last_process;
static int owner_pid;
static u64 fork_mask;

static u64 all_lock(void)
{
	u64 all = ~0ull, old = 0;

	sys(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, sizeof(all));
	pthread_mutex_lock(&lock);
	return old;
}

static void all_unlock(u64 old)
{
	pthread_mutex_unlock(&lock);
	sys(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
}

/* ---- processes ---- */

static void fork_prepare(void)
{
	fork_mask = all_lock();
}

static void fork_parent(void)
{
	all_unlock(fork_mask);
}

static void fork_child(void)
{
	WRITE_ONCE(*process_word, 0);
	uapi_after_fork_child();
	sys(SYS_rt_sigprocmask, SIG_SETMASK, &fork_mask, NULL, sizeof(fork_mask));
}

void uapi_after_fork_child(void)
{
	u32 expected = 0, next;

	if (!process_word)
		return;
	next = READ_ONCE(last_process) + 1;
	if (!__atomic_compare_exchange_n(process_word, &expected, next, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST))
		return;
	/* Only the forking thread lives on; it did not hold the lock, or holds it as fork_prepare()
	 * took it. */
	pthread_mutex_init(&lock, NULL);
	uapi_cancel_after_fork_child();
	WRITE_ONCE(last_process, next);
	WRITE_ONCE(owner_pid, (int)sys(SYS_getpid, 0));
}

static u32 this_process(void)
{
	u32 *word = LOAD_ACQUIRE(process_word);
	u32 now;

	if (unlikely(!word))
		return 0;
	now = READ_ONCE(*word);
	if (unlikely(!now)) {
		uapi_after_fork_child();
		now = READ_ONCE(*word);
	}
	return now;
}

/* False in a vfork child, which has borrowed this memory but has fds of its own. */
static bool own_fds(void)
{
	return this_process() && sys(SYS_getpid, 0) == READ_ONCE(owner_pid);
}

/* Called with the lock held, by the first object. */
static int process_init(void)
{
	long page;
	u32 *word;

	if (process_word)
		return 0;
	page = sys(SYS_mmap, 0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		   0);
	if (page < 0 && page > -(long)PAGE_SIZE)
		return (int)page;
	/* Kernels before 4.14 lack it: then fork(2) is still noticed by the handlers below,
	 * clone(2) is not. */
	sys(SYS_madvise, page, PAGE_SIZE, MADV_WIPEONFORK);
	word = (u32 *)page;
	owner_pid = (int)sys(SYS_getpid, 0);
	*word = last_process = 1;
	STORE_RELEASE(process_word, word);
	pthread_atfork(fork_prepare, fork_parent, fork_child);
	return 0;
}

bool uapi_foreign_process(const struct uapi_object *obj)
{
	return obj->process != this_process();
}

/* ---- the fd table ---- */

static u64 *entry_of(int fd)
{
	u64 *chunk;

	if (unlikely((unsigned int)fd >= MAX_FDS))
		return NULL;
	chunk = LOAD_ACQUIRE(chunks[(unsigned int)fd >> CHUNK_BITS]);
	return chunk ? &chunk[(unsigned int)fd % CHUNK_FDS] : NULL;
}

/* Not malloc: this runs inside the client's open and close, which its own malloc may call. */
static u64 *entry_make(int fd)
{
	u64 **slot, *expected = NULL;
	long page;

	if ((unsigned int)fd >= MAX_FDS)
		return NULL;
	slot = &chunks[(unsigned int)fd >> CHUNK_BITS];
	if (!LOAD_ACQUIRE(*slot)) {
		page = sys(SYS_mmap, 0, CHUNK_FDS * sizeof(u64), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (page < 0 && page > -(long)PAGE_SIZE)
			return NULL;
		if (!__atomic_compare_exchange_n(slot, &expected, (u64 *)page, false,
						 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			sys(SYS_munmap, page, CHUNK_FDS * sizeof(u64));
	}
	return entry_of(fd);
}

static bool entry_cas(u64 *e, u64 *old, u64 new)
{
	return __atomic_compare_exchange_n(e, old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static struct uapi_object **hash_slot(u64 dev, u64 ino)
{
	return &hash[(ino ^ (ino >> 8) ^ dev) % HASH_SIZE];
}

static void unhash(struct uapi_object *obj)
{
	struct uapi_object **p = hash_slot(obj->dev, obj->ino);

	while (*p && *p != obj)
		p = &(*p)->hash_next;
	if (*p) {
		*p = obj->hash_next;
		WRITE_ONCE(nr_objects, nr_objects - 1);
	}
}

/* Lock held. The entry gets `tag`; returns the object that lost its last fd, for the caller to put
 * after unlocking. */
static struct uapi_object *entry_clear(u64 *e, u64 tag)
{
	u64 w = __atomic_load_n(e, __ATOMIC_SEQ_CST);
	struct uapi_object *obj;

	/* Entries change to and from an address under the lock only: obj cannot become another one.
	 */
	if (w < FD_TAGS) {
		__atomic_store_n(e, tag, __ATOMIC_SEQ_CST);
		return NULL;
	}
	obj = FD_ADDR(w);
	/* A borrower may drop the reference its loan turns into before it is counted: keep away
	 * from 0 meanwhile. */
	__atomic_fetch_add(&obj->refs, FD_MANY, __ATOMIC_SEQ_CST);
	w = __atomic_exchange_n(e, tag, __ATOMIC_SEQ_CST);
	__atomic_fetch_sub(&obj->refs, FD_MANY - FD_LOANS(w), __ATOMIC_SEQ_CST);
	if (--obj->nr_fds)
		return NULL;
	unhash(obj);
	return obj;
}

/* Lock held. As entry_clear(), but the entry gets obj, which has been told apart from what was
 * there. */
static struct uapi_object *entry_set(u64 *e, struct uapi_object *obj)
{
	struct uapi_object *gone;

	obj->nr_fds++;
	gone = entry_clear(e, (u64)obj);
	return gone;
}

/* ---- references ---- */

void uapi_hold(struct uapi_object *obj)
{
	__atomic_fetch_add(&obj->refs, 1, __ATOMIC_SEQ_CST);
}

void uapi_put(struct uapi_object *obj)
{
	if (!obj || __atomic_sub_fetch(&obj->refs, 1, __ATOMIC_SEQ_CST))
		return;
	/* A forked child's copy has no threads and perhaps held locks: its memory is left as it is.
	 */
	if (!uapi_foreign_process(obj))
		obj->type->release(obj);
}

static void give_back(u64 *e, struct uapi_object *obj)
{
	u64 w = __atomic_load_n(e, __ATOMIC_SEQ_CST);

	while (w >= FD_TAGS && FD_ADDR(w) == obj && FD_LOANS(w)) {
		if (entry_cas(e, &w, w - FD_LOAN))
			return;
	}
	/* The loan was turned into a reference; ours keeps the object, so this cannot be the last.
	 */
	__atomic_fetch_sub(&obj->refs, 1, __ATOMIC_SEQ_CST);
}

static struct uapi_object *find_identity(u64 dev, u64 ino)
{
	struct uapi_object *obj = *hash_slot(dev, ino);

	while (obj && (obj->ino != ino || obj->dev != dev))
		obj = obj->hash_next;
	return obj;
}

/* Asks the kernel what fd is. */
static __cold struct uapi_object *get_by_identity(int fd)
{
	struct uapi_object *obj;
	u64 *e, w = FD_UNKNOWN, mask;
	struct stat st;
	bool own;

	if (fd < 0 || !READ_ONCE(nr_objects))
		return NULL;
	e = entry_make(fd);
	if (e)
		w = __atomic_load_n(e, __ATOMIC_SEQ_CST);
	if (sys(SYS_fstat, fd, &st) < 0)
		return NULL;
	own = own_fds();
	mask = all_lock();
	obj = find_identity(st.st_dev, st.st_ino);
	if (obj)
		uapi_hold(obj);
	if (e && own && w < FD_TAGS) {
		if (!obj)
			entry_cas(e, &w, FD_FOREIGN);
		else if (w != FD_CLOSED && entry_cas(e, &w, (u64)obj))
			obj->nr_fds++;
	}
	all_unlock(mask);
	return obj;
}

struct uapi_object *uapi_get(int fd)
{
	u64 *e = entry_of(fd);
	struct uapi_object *obj;
	u64 w;

	if (unlikely(!e))
		return get_by_identity(fd);
	w = __atomic_load_n(e, __ATOMIC_SEQ_CST);
	do {
		if (w == FD_FOREIGN)
			return NULL;
		if (unlikely(w < FD_TAGS))
			return get_by_identity(fd);
	} while (!entry_cas(e, &w, w + FD_LOAN));
	obj = FD_ADDR(w);
	uapi_hold(obj);
	give_back(e, obj);
	return obj;
}

struct uapi_object *uapi_get_type(int fd, const struct uapi_type *type)
{
	struct uapi_object *obj = uapi_get(fd);

	if (obj && obj->type != type) {
		uapi_put(obj);
		return NULL;
	}
	return obj;
}

/* ---- making ---- */

static int backing_file(const char *name, u64 size, struct stat *st)
{
	long fd = sys(SYS_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING), err;

	if (fd < 0)
		return (int)fd;
	err = size ? sys(SYS_ftruncate, fd, size) : 0;
	/* The client must not be able to pull the pages from under our own mapping. */
	if (!err)
		err = sys(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	if (!err)
		err = sys(SYS_fstat, fd, st);
	if (err) {
		sys(SYS_close, fd);
		return (int)err;
	}
	return (int)fd;
}

int uapi_object_open(struct uapi_object *obj, const struct uapi_type *type, u64 size)
{
	const struct uapi_index *index = uapi_index_get(type);
	struct uapi_object *gone = NULL, **slot;
	struct stat st;
	u64 *e, mask;
	int fd, err;

	if (!index)
		return -ENOMEM;
	fd = backing_file(type->name, size, &st);
	if (fd < 0)
		return fd;
	e = entry_make(fd);
	mask = all_lock();
	err = process_init();
	if (err) {
		all_unlock(mask);
		sys(SYS_close, fd);
		return err;
	}
	*obj = (struct uapi_object){.type = type,
				    .refs = 2,
				    .dev = st.st_dev,
				    .ino = st.st_ino,
				    .process = this_process(),
				    .index = index};
	slot = hash_slot(obj->dev, obj->ino);
	obj->hash_next = *slot;
	*slot = obj;
	WRITE_ONCE(nr_objects, nr_objects + 1);
	if (e)
		gone = entry_set(e, obj);
	else
		obj->nr_fds = 1;
	all_unlock(mask);
	uapi_put(gone);
	return fd;
}

int uapi_object_map(int fd, u64 size, void **out)
{
	long p = sys(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p < 0 && p > -(long)PAGE_SIZE)
		return (int)p;
	*out = (void *)p;
	return 0;
}

int uapi_mmap(struct uapi_object *obj, int fd, void *addr, size_t len, int prot, int flags,
	      off_t off, void **out)
{
	long p;

	if (obj->type->mmap)
		return obj->type->mmap(obj, addr, len, prot, flags, off, out);
	p = sys(SYS_mmap, addr, len, prot, flags, fd, off);
	if (p < 0 && p > -(long)PAGE_SIZE)
		return (int)p;
	*out = (void *)p;
	return 0;
}

/* ---- the client's fd traffic ---- */

static void clear_fd(u64 *e, u64 tag)
{
	struct uapi_object *gone;
	u64 mask;

	if (!own_fds())
		return;
	mask = all_lock();
	gone = entry_clear(e, tag);
	all_unlock(mask);
	uapi_put(gone);
}

void uapi_fd_closing(int fd)
{
	u64 *e = entry_of(fd);

	if (e && __atomic_load_n(e, __ATOMIC_SEQ_CST) >= FD_TAGS)
		clear_fd(e, FD_CLOSED);
}

void uapi_fds_closing(unsigned int first, unsigned int last)
{
	unsigned int fd = first;

	if (!READ_ONCE(nr_objects))
		return;
	while (fd <= last && fd < MAX_FDS) {
		if (!LOAD_ACQUIRE(chunks[fd >> CHUNK_BITS])) {
			fd = (fd | (CHUNK_FDS - 1)) + 1;
			continue;
		}
		uapi_fd_closing((int)fd++);
	}
}

void uapi_fd_arrived(int fd)
{
	u64 *e;

	if (fd < 0)
		return;
	e = entry_of(fd);
	if (e) {
		u64 w = __atomic_load_n(e, __ATOMIC_SEQ_CST);

		/* An address here means that the number was closed behind our back. */
		if (w >= FD_TAGS)
			clear_fd(e, FD_UNKNOWN);
		else if (w != FD_UNKNOWN)
			entry_cas(e, &w, FD_UNKNOWN);
	}
	/* Asked now and not at the first ioctl: the other fds of an object may be closed before. */
	if (READ_ONCE(nr_objects))
		uapi_put(uapi_get(fd));
}

void uapi_fd_duped(int oldfd, int newfd)
{
	struct uapi_object *obj, *gone = NULL;
	u64 *e, mask;

	if (oldfd == newfd || newfd < 0)
		return;
	obj = uapi_get(oldfd);
	if (!obj) {
		e = entry_of(newfd);
		if (e) {
			u64 w;

			uapi_fd_closing(newfd);
			w = __atomic_load_n(e, __ATOMIC_SEQ_CST);
			if (w < FD_TAGS)
				entry_cas(e, &w, FD_FOREIGN);
		}
		return;
	}
	e = own_fds() ? entry_make(newfd) : NULL;
	if (e) {
		mask = all_lock();
		gone = entry_set(e, obj);
		all_unlock(mask);
	}
	uapi_put(gone);
	uapi_put(obj);
}
