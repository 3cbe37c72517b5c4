// SPDX-License-Identifier: MIT
// The chunk compressor on the host backend: a warp of one for each chunk.
#include "frame_writer.hpp"
#include "launch.hpp"

#include "cuda_zstd/env/solo_env.hpp"

#include <memory>
#include <vector>

namespace cuda_zstd::compression::detail {
namespace {

using Workspace = cuda_zstd::detail::ChunkWorkspace<solo_env>;

constexpr cuda_zstd::detail::FseTables fse_tables = cuda_zstd::detail::make_fse_tables();

/// One workspace for each processor, made when that processor's first chunk comes.
class Workspaces {
public:
    explicit Workspaces(unsigned processors) : of_processor_(processors) {}
    Workspace& of(unsigned processor) {
        auto& workspace = of_processor_.at(processor);
        if (workspace == nullptr) {
            workspace.reset(new Workspace);
            workspace->fse = fse_tables;
        }
        return *workspace;
    }

private:
    std::vector<std::unique_ptr<Workspace>> of_processor_;
};

} // namespace

void compress_on_host(Backend& backend, cudaStream_t stream, const DevicePool& pool, const CompressArgs& args) {
    auto workspaces = std::make_shared<Workspaces>(backend.processors());
    backend.run_blocks(stream, args.chunk_count,
                       [args, workspaces, ref = pool.ref<solo_env>()](unsigned index, unsigned processor) {
                           solo_env env(processor);
                           cuda_zstd::detail::compress_chunk(env, ref, workspaces->of(processor), args, index);
                       });
}

void gather_on_host(Backend& backend, cudaStream_t stream, const DevicePool& pool, const CompressArgs& args,
                    const GatherArgs& gather) {
    backend.host_task(stream, [args] {
        std::uint64_t total = 0;
        for (std::uint32_t i = 0; i < args.chunk_count; ++i) {
            const std::uint64_t begin = total;
            total += args.frame_offsets[i];
            args.frame_offsets[i] = begin;
        }
        args.frame_offsets[args.chunk_count] = total;
    });
    backend.run_blocks(stream, args.chunk_count,
                       [args, gather, ref = pool.ref<solo_env>()](unsigned index, unsigned processor) {
                           solo_env env(processor);
                           cuda_zstd::detail::gather_chunk(env, ref, args, gather.packed, index);
                       });
}

} // namespace cuda_zstd::compression::detail
