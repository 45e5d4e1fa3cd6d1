// SPDX-License-Identifier: Apache-2.0
//
// flbhost: a stand-in for Fluent Bit in the end-to-end tests. It loads one Go
// output plugin (.so) and calls it the way Fluent Bit's Go proxy does, from a
// process that has no Go runtime of its own. Its protocol: see README.md.
//
// Threads: the main thread is the "engine" (init, exit, and the flushes of all
// instances with Workers 0); N workers per instance; one reads stdin; one takes
// the signals. All share one lock and one condition: simple beats fast here.
#define _GNU_SOURCE
#include <ctype.h>
#include <dlfcn.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { CODE_ERROR = 0, CODE_OK = 1, CODE_RETRY = 2, TYPE_OUTPUT = 2, PROXY_GOLANG = 11,
       MAX_DELAY_MS = 2000, MAX_TAG = 65536 };
#define NEVER INT64_MAX

// ---- What the plugin sees: the memory layouts of Fluent Bit 5.1 ------------
struct proxy_def {                      // filled in by FLBPluginRegister
    int type, proxy, flags;
    char *name, *description;
    int event_type;
    void *config_map;
};
struct api {                            // Go output plugins use the first only
    const char *(*output_get_property)(const char *key, void *instance);
    void *unused[8];
};
struct proxy_context { void *remote_context, *proxy; };  // 1st: set by the plugin
struct go_plugin {                      // the argument of FLBPluginInit
    char *name;
    struct api *api;
    void *o_ins;
    struct proxy_context *context;
    int (*init)(struct go_plugin *);
    int (*flush)(const void *, size_t, const char *);
    int (*flush_ctx)(void *, const void *, size_t, char *);
    int (*exit)(void);
    int (*exit_ctx)(void *);
};

// ---- The host's own state --------------------------------------------------
struct property { char *key, *value; struct property *next; };
struct chunk { char *tag; void *data; size_t tag_len, size; };
struct delivery {                       // a chunk on its way to one instance
    struct chunk chunk;
    uint64_t seq;
    struct instance *inst;
    int attempt;                        // 1 is the first
    int64_t due, delay;                 // not to be flushed before; the next back-off
    struct delivery *next;
};
struct queue { struct delivery *head, **tail; };
struct instance {
    int index, workers, retry_limit;    // retry_limit < 0: no limit
    const char *match;
    struct property *props;
    struct proxy_context context;
    struct queue own, *queue;           // `queue`: &own, or &engine_queue
    struct instance *next;
    pthread_t threads[];
};
static void *library;
static struct proxy_def def;
static struct go_plugin plugin;         // ONE for all instances, as in Fluent Bit
static struct instance *instances;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;    // for the queues and
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;   // the next three
static struct queue engine_queue = { NULL, &engine_queue.head };
static long unsettled;                  // deliveries neither done nor dropped
static int64_t deadline = NEVER;        // of the shutdown, once it has begun
static int64_t grace_ms = 5000, retry_base_ms = 200;
static size_t stack_size;

// ---- Output and small helpers ----------------------------------------------
// One write(2) per line: lines of several threads and of the plugin never mix.
__attribute__((format(printf, 3, 4)))
static void note(const char *level, const char *part, const char *fmt, ...)
{
    char text[1024], line[1152], when[32];
    struct timespec now;
    struct tm tm;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    clock_gettime(CLOCK_REALTIME, &now);
    strftime(when, sizeof when, "%Y/%m/%d %H:%M:%S", localtime_r(&now.tv_sec, &tm));
    int n = snprintf(line, sizeof line, "[%s.%03ld] [%5s] [%s] %s\n",
                     when, now.tv_nsec / 1000000, level, part, text);
    if (write(STDERR_FILENO, line, n) < 0) return;  // nowhere left to report it
}
#define info(...) note("info", "flbhost", __VA_ARGS__)
#define warning(...) note("warn", "flbhost", __VA_ARGS__)
#define die(...) do { note("error", "flbhost", __VA_ARGS__); _exit(1); } while (0)

__attribute__((format(printf, 1, 2)))
static void say(const char *fmt, ...)   // a line of the protocol on stdout
{
    char line[128];
    va_list ap;
    ssize_t w;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    while ((w = write(STDOUT_FILENO, line, n)) < 0 && errno == EINTR) { }
    if (w != n) die("cannot write to stdout: %s", strerror(errno));
}

static void *need(void *p)
{
    if (!p) die("out of memory");
    return p;
}

static void must(int error_number, const char *what)  // for the pthread calls
{
    if (error_number) die("%s: %s", what, strerror(error_number));
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static double number(const char *what, const char *text, double min)
{
    char *end;
    double n = strtod(text, &end);
    if (end == text || *end || !(n >= min && n <= 1e6)) die("bad %s: '%s'", what, text);
    return n;
}

static void *symbol(const char *name) { return dlsym(library, name); }

// ---- Configuration ---------------------------------------------------------
// ${NAME} becomes the variable's value; ${NAME:-word} `word` if that is empty.
static char *expand(const char *text)
{
    char *out = NULL;
    size_t size;
    FILE *f = need(open_memstream(&out, &size));
    for (const char *open, *close; (open = strstr(text, "${")) && (close = strchr(open, '}'));
         text = close + 1) {
        char *name = need(strndup(open + 2, close - open - 2)), *word = strstr(name, ":-");
        if (word) { *word = '\0'; word += 2; }
        const char *value = getenv(name);
        if (!value || !*value) value = word;
        if (!value) note("warn", "env", "variable ${%s} is used but not set", name);
        fprintf(f, "%.*s%s", (int)(open - text), text, value ? value : "");
        free(name);
    }
    fputs(text, f);
    if (fclose(f)) die("out of memory");
    return out;
}

static bool is_core_key(const char *key)
{
    static const char *const core[] = { "name", "match", "match_regex", "alias", "host",
        "port", "ipv6", "workers", "retry_limit", "log_level", "log_suppress_interval",
        "tls", "tls.*", "net.*", "storage.*", "oauth2*", NULL };
    for (int i = 0; core[i]; i++) {
        size_t n = strcspn(core[i], "*");
        if (!strncasecmp(key, core[i], n) && (core[i][n] || !key[n])) return true;
    }
    return false;
}

// If a key is repeated, Fluent Bit heeds the last one of its own keys, but gives
// a plugin the first one of the plugin's keys, even if that has no value.
static const char *value_of(const struct property *p, const char *key)
{
    const struct property *found = NULL;
    for (; p && (!found || is_core_key(key)); p = p->next)
        if (!strcasecmp(p->key, key)) found = p;
    return found ? found->value : NULL;
}

// The plugin's view of its section: the keys Fluent Bit consumes are not in it.
static const char *output_get_property(const char *key, void *instance)
{
    return key && !is_core_key(key) ? value_of(((struct instance *)instance)->props, key) : NULL;
}

static int retry_limit(const char *v)   // the rules of Fluent Bit, incl. for 0
{
    if (!v) return 1;
    if (!strcasecmp(v, "no_limits") || !strcasecmp(v, "false") || !strcasecmp(v, "off")) return -1;
    if (!strcasecmp(v, "no_retries")) return 0;
    if (atoi(v) <= 0) warning("invalid Retry_Limit '%s', using 1", v);
    return atoi(v) > 0 ? atoi(v) : 1;
}

// Makes an instance of a finished [OUTPUT] section, if it is one of our plugin.
static void end_section(bool is_output, struct property *props)
{
    static struct instance **last = &instances;
    static int count;
    const char *name = value_of(props, "name"), *workers = value_of(props, "workers");
    if (!is_output || !name || strcasecmp(name, def.name)) return;
    if (value_of(props, "match_regex")) die("Match_Regex is not supported");
    int n = workers && atoi(workers) > 0 ? atoi(workers) : 0;
    struct instance *inst = need(calloc(1, sizeof *inst + n * sizeof inst->threads[0]));
    inst->index = count++;
    inst->workers = n;
    inst->retry_limit = retry_limit(value_of(props, "retry_limit"));
    inst->match = value_of(props, "match");
    inst->props = props;
    inst->own.tail = &inst->own.head;
    inst->queue = inst->workers ? &inst->own : &engine_queue;
    *last = inst;
    last = &inst->next;
}

// As strict as Fluent Bit, so that a configuration which works here works there:
// keys are indented, a space (no tab) ends them, and a value must follow.
static struct property *parse_key(char *line)
{
    struct property *p = need(calloc(1, sizeof *p));
    char *raw = NULL;
    if (!isblank((unsigned char)*line) || sscanf(line, " %m[^ ] %m[^\n]", &p->key, &raw) != 2
        || *p->key == '[' || *p->key == '@' || strchr(p->key, '\t')) return NULL;
    p->value = expand(raw);
    free(raw);
    if (!*p->value) { free(p->value); p->value = NULL; }  // nothing: as if absent
    return p;
}

static void read_config(const char *path)
{
    FILE *f = fopen(path, "re");
    struct property *props = NULL, **last = NULL;
    bool is_output = false;
    char *line = NULL;
    size_t size = 0;
    ssize_t len;
    if (!f) die("%s: %s", path, strerror(errno));
    for (int n = 1; (len = getline(&line, &size, f)) >= 0; n++) {
        while (len && isspace((unsigned char)line[len - 1])) line[--len] = '\0';
        char first = line[strspn(line, " \t")];
        if (!first || first == '#') continue;
        if (*line == '[' && strchr(line, ']')) {
            end_section(is_output, props);
            is_output = !strncasecmp(line, "[OUTPUT]", 8);
            props = NULL;
            last = &props;
        } else {
            if (!last || !(*last = parse_key(line)))
                die("%s:%d: neither a section nor an indented 'Key Value'", path, n);
            last = &(*last)->next;
        }
    }
    if (ferror(f)) die("%s: %s", path, strerror(errno));
    end_section(is_output, props);
    free(line);
    fclose(f);
    if (!instances) die("%s: no [OUTPUT] section with Name %s", path, def.name);
}

// ---- Flushing --------------------------------------------------------------
// Fluent Bit flushes on a coroutine, whose stack is small and unknown to the
// thread library. A Go runtime must cope with both, hence no direct call here.
struct flush_call {
    struct instance *inst;
    struct chunk chunk;
    int result;
    ucontext_t thread, coroutine;
};
static __thread struct flush_call *current;  // makecontext passes ints only

static void coroutine_main(void)        // when it returns, uc_link leads back
{
    struct flush_call *c = current;
    c->result = plugin.flush_ctx(c->inst->context.remote_context,
                                 c->chunk.data, c->chunk.size, c->chunk.tag);
}

static void run_coroutine(struct flush_call *c)
{
    // A fresh stack each time, as in Fluent Bit, but with a guard page below: an
    // overflow faults at once instead of corrupting something.
    size_t page = sysconf(_SC_PAGESIZE), size = (stack_size + page - 1) / page * page;
    char *stack = mmap(NULL, page + size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED || mprotect(stack, page, PROT_NONE) || getcontext(&c->coroutine))
        die("coroutine: %s", strerror(errno));
    c->coroutine.uc_stack.ss_sp = stack + page;
    c->coroutine.uc_stack.ss_size = size;
    c->coroutine.uc_link = &c->thread;
    makecontext(&c->coroutine, coroutine_main, 0);
    current = c;
    if (swapcontext(&c->thread, &c->coroutine)) die("swapcontext: %s", strerror(errno));
    munmap(stack, page + size);
}

// The tag gets its NUL, the chunk nothing more: a checker is to see an overrun.
static void allocate(struct chunk *c, size_t tag_len, size_t size)
{
    *c = (struct chunk){ need(calloc(1, tag_len + 1)), need(malloc(size + !size)), tag_len, size };
}

static struct chunk copy_of(const struct chunk *from)
{
    struct chunk c;
    allocate(&c, from->tag_len, from->size);
    memcpy(c.tag, from->tag, from->tag_len);
    memcpy(c.data, from->data, from->size);
    return c;
}

static void poison_and_free(struct chunk *c)
{
    memset(c->tag, 0xdd, c->tag_len + 1);
    memset(c->data, 0xdd, c->size);
    __asm__ volatile("" : : : "memory");  // or the memsets are optimised away
    free(c->tag);
    free(c->data);
}

// The buffers are the plugin's during this one call only. Each attempt has its
// own, poisoned afterwards, so that a pointer kept from an earlier one shows.
static int flush_once(struct delivery *d)
{
    struct flush_call c = { .inst = d->inst, .chunk = copy_of(&d->chunk) };
    run_coroutine(&c);
    poison_and_free(&c.chunk);
    return c.result == CODE_OK || c.result == CODE_RETRY ? c.result : CODE_ERROR;
}

static void enqueue(struct delivery *d) // with the lock held
{
    struct queue *q = d->inst->queue;
    d->next = NULL;
    *q->tail = d;
    q->tail = &d->next;
    pthread_cond_broadcast(&changed);
}

static void attempt(struct delivery *d)
{
    static const char *const names[] = { "ERROR", "OK", "RETRY" };
    int index = d->inst->index, limit = d->inst->retry_limit, code = flush_once(d);
    bool again = code == CODE_RETRY && (limit < 0 || d->attempt <= limit);
    say("flush %ju %d %s %d\n", (uintmax_t)d->seq, index, names[code], d->attempt);
    if (!again && code != CODE_OK) say("dropped %ju %d\n", (uintmax_t)d->seq, index);
    pthread_mutex_lock(&lock);
    if (again) {
        d->attempt++;
        d->due = now_ms() + d->delay;
        if (d->delay < MAX_DELAY_MS)
            d->delay = 2 * d->delay < MAX_DELAY_MS ? 2 * d->delay : MAX_DELAY_MS;
        enqueue(d);
    } else {
        poison_and_free(&d->chunk);
        free(d);
        if (--unsettled == 0) pthread_cond_broadcast(&changed);
    }
    pthread_mutex_unlock(&lock);
}

// Takes the first delivery that is due off a queue; else tells when one will be.
static struct delivery *take(struct queue *q, int64_t now, int64_t *next_due)
{
    for (struct delivery **p = &q->head, *d; (d = *p); p = &d->next) {
        if (d->due <= now) {
            if (!(*p = d->next)) q->tail = p;
            return d;
        }
        if (d->due < *next_due) *next_due = d->due;
    }
    return NULL;
}

// What both the engine and the workers do until the shutdown is complete: until
// all is settled after it began, or the grace period is over.
static void serve(struct queue *queue)
{
    pthread_mutex_lock(&lock);
    for (;;) {
        int64_t now = now_ms(), wake = deadline;
        if (deadline != NEVER && (!unsettled || now >= deadline)) break;
        struct delivery *d = take(queue, now, &wake);
        if (d) {
            pthread_mutex_unlock(&lock);
            attempt(d);
            pthread_mutex_lock(&lock);
        } else {                        // until then, or until something has changed
            struct timespec t = { wake / 1000, wake % 1000 * 1000000 };
            int e = pthread_cond_clockwait(&changed, &lock, CLOCK_MONOTONIC, &t);
            if (e != ETIMEDOUT) must(e, "pthread_cond_clockwait");
        }
    }
    pthread_mutex_unlock(&lock);
}

static void *worker(void *inst)
{
    serve(((struct instance *)inst)->queue);
    return NULL;
}

// ---- Input and signals -----------------------------------------------------
// As Fluent Bit's router: case-sensitive, `*` stands for any run of bytes.
static bool matches(const char *pattern, const char *tag)
{
    if (*pattern == '*')
        return matches(pattern + 1, tag) || (*tag && matches(pattern, tag + 1));
    return *pattern == *tag && (!*tag || matches(pattern + 1, tag + 1));
}

static void accept_chunk(const struct chunk *c)
{
    static uint64_t seq;
    pthread_mutex_lock(&lock);
    if (deadline == NEVER) {            // nothing is accepted during the shutdown
        long before = unsettled;
        say("accepted %ju\n", (uintmax_t)++seq);
        for (struct instance *inst = instances; inst; inst = inst->next) {
            if (!inst->match || !matches(inst->match, c->tag)) continue;
            struct delivery *d = need(calloc(1, sizeof *d));
            *d = (struct delivery){ copy_of(c), seq, inst, .attempt = 1, .delay = retry_base_ms };
            unsettled++;
            enqueue(d);
        }
        if (unsettled == before) say("unmatched %ju\n", (uintmax_t)seq);
    }
    pthread_mutex_unlock(&lock);
}

static bool read_all(void *to, size_t n, bool between_frames)
{
    for (size_t got = 0; got < n;) {
        ssize_t r = read(STDIN_FILENO, (char *)to + got, n - got);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) warning("stdin: %s", strerror(errno));
        if (r == 0 && (got || !between_frames)) warning("stdin ended within a frame");
        if (r <= 0) return false;
        got += r;
    }
    return true;
}

static bool read_frame(void)
{
    static char tag[MAX_TAG];
    struct chunk c;
    uint32_t tag_len;
    uint64_t size;
    if (!read_all(&tag_len, sizeof tag_len, true)) return false;
    tag_len = le32toh(tag_len);
    if (tag_len > MAX_TAG) die("bad frame on stdin: tag of %u bytes", tag_len);
    if (!read_all(tag, tag_len, false) || !read_all(&size, sizeof size, false)) return false;
    size = le64toh(size);               // which cgo will take as a C int:
    if (size > INT32_MAX) die("bad frame on stdin: chunk of %ju bytes", (uintmax_t)size);
    allocate(&c, tag_len, size);
    memcpy(c.tag, tag, tag_len);
    bool complete = read_all(c.data, size, false);
    if (complete) accept_chunk(&c);
    poison_and_free(&c);
    return complete;
}

static void *reader(void *unused)
{
    struct pollfd out = { .fd = STDOUT_FILENO };  // events 0: wait for an error
    while (read_frame()) { }
    info("end of input");
    // The end of the input is not ours. But if stdout's reader goes away, too,
    // then the test has died, and nobody else will end this process.
    while (poll(&out, 1, -1) < 0 && errno == EINTR) { }
    die("nobody reads stdout any more");
    return unused;
}

// Begins the shutdown. Any further signal stays pending, that is: is ignored.
static void *signal_taker(void *set)
{
    int sig;
    must(sigwait(set, &sig), "sigwait");
    pthread_mutex_lock(&lock);
    info("%s: stopping, %ld to be settled in at most %jd ms", strsignal(sig),
         unsettled, (intmax_t)grace_ms);
    deadline = now_ms() + grace_ms;
    // Those waiting for a retry have theirs now, as with Fluent Bit.
    for (struct instance *inst = instances; inst; inst = inst->next)
        for (struct delivery *d = inst->queue->head; d; d = d->next) d->due = 0;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return NULL;
}

// Called before the plugin is loaded: the Go runtime's threads inherit the mask,
// so whatever handlers it installs, only the sigwait above gets these signals.
static sigset_t *block_signals(void)
{
    static sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    must(pthread_sigmask(SIG_BLOCK, &set, NULL), "pthread_sigmask");
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) die("SIGPIPE: %s", strerror(errno));
    return &set;
}

// ---- Life cycle ------------------------------------------------------------
static void load_plugin(const char *path)
{
    static struct api api = { .output_get_property = output_get_property };
    int (*pre_register)(int), (*do_register)(struct proxy_def *);
    if (!(library = dlopen(path, RTLD_LAZY))) die("cannot load the plugin: %s", dlerror());
    if ((pre_register = symbol("FLBPluginPreRegister")) && pre_register(0) == -1)
        die("FLBPluginPreRegister failed");
    if (!(do_register = symbol("FLBPluginRegister")) || do_register(&def) == -1)
        die("FLBPluginRegister missing or failed");
    if (def.type != TYPE_OUTPUT || def.proxy != PROXY_GOLANG || !def.name)
        die("not a Go output plugin: type %d, proxy %d", def.type, def.proxy);
    plugin = (struct go_plugin){
        .name = need(strdup(def.name)), .api = &api,
        .init = symbol("FLBPluginInit"),
        .flush = symbol("FLBPluginFlush"), .flush_ctx = symbol("FLBPluginFlushCtx"),
        .exit = symbol("FLBPluginExit"), .exit_ctx = symbol("FLBPluginExitCtx"),
    };
    if (!plugin.init || !plugin.flush_ctx) die("FLBPluginInit or FLBPluginFlushCtx missing");
}

static void exit_instance(struct instance *inst)
{
    void (*pre_exit)(int) = symbol("FLBPluginOutputPreExit");
    if (pre_exit) pre_exit(0);          // 0: this is no hot reload
    if (plugin.exit_ctx) plugin.exit_ctx(inst->context.remote_context);
    else if (plugin.exit) plugin.exit();
}

static void unregister(void)            // and no dlclose: Go cannot be unloaded
{
    void (*do_unregister)(struct proxy_def *) = symbol("FLBPluginUnregister");
    if (do_unregister) do_unregister(&def);
}

static void init_instances(void)
{
    for (struct instance *inst = instances; inst; inst = inst->next) {
        plugin.o_ins = inst;
        plugin.context = &inst->context;
        if (plugin.init(&plugin) > 0) continue;
        note("error", "output", "failed to initialize '%s' plugin", plugin.name);
        // Fluent Bit also "exits" those whose init is yet to come: context NULL.
        for (struct instance *other = instances; other; other = other->next)
            if (other != inst) exit_instance(other);
        unregister();
        exit(1);
    }
}

static void start_instances(void)
{
    int (*pre_run)(int) = symbol("FLBPluginOutputPreRun");
    for (struct instance *inst = instances; inst; inst = inst->next) {
        info("instance %d: match %s, workers %d, retry limit %d", inst->index,
             inst->match ? inst->match : "nothing", inst->workers, inst->retry_limit);
        if (pre_run) pre_run(0);        // Fluent Bit ignores the result, too
        for (int i = 0; i < inst->workers; i++)
            must(pthread_create(&inst->threads[i], NULL, worker, inst), "pthread_create");
    }
}

// As in Fluent Bit, a flush under way is waited for, however long that takes: no
// plugin sees its exit called while one of that instance's flushes runs.
static void exit_instances(void)
{
    for (struct instance *inst = instances; inst; inst = inst->next) {
        for (int i = 0; i < inst->workers; i++)
            must(pthread_join(inst->threads[i], NULL), "pthread_join");
        exit_instance(inst);
    }
    if (unsettled) warning("%ld deliveries were left unfinished", unsettled);
    unregister();
}

int main(int argc, char **argv)
{
    const char *plugin_path = NULL, *config_path = NULL, *retry = getenv("FLBHOST_RETRY_MS"),
        *stack = getenv("FLBHOST_STACK_KB");
    pthread_t unused;
    for (int opt; (opt = getopt(argc, argv, "e:c:g:")) != -1;) {
        if (opt == 'e') plugin_path = optarg;
        else if (opt == 'c') config_path = optarg;
        else if (opt == 'g') grace_ms = 1000 * number("-g", optarg, 0);
        else return 2;                  // getopt has complained
    }
    if (!plugin_path || !config_path || optind < argc) {
        fprintf(stderr, "usage: flbhost -e PLUGIN.so -c CONFIG [-g GRACE_SECONDS]\n");
        return 2;
    }
    if (retry && *retry) retry_base_ms = number("FLBHOST_RETRY_MS", retry, 1);
    stack_size = 1024 * (stack && *stack ? number("FLBHOST_STACK_KB", stack, 4) : 64);
    sigset_t *signals = block_signals();
    load_plugin(plugin_path);
    read_config(config_path);
    must(pthread_create(&unused, NULL, signal_taker, signals), "pthread_create");
    init_instances();
    start_instances();
    say("ready\n");
    must(pthread_create(&unused, NULL, reader, NULL), "pthread_create");
    serve(&engine_queue);
    exit_instances();
    say("exited\n");
    return 0;
}
