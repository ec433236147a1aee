"""gradients/<name>/: the LEAF text-encoder loss, its gradients and AdamW steps on a small CLIPTextModelWithProjection.

f0 = frozen copy of the initial weights theta0; f = weights theta = theta0 + a small fixed perturbation (else the loss of the
clean sentence is 0); S = clean token ids, S' = the same sentences with some tokens replaced ("adversarial").
    loss_pooled = mean over the batch of sum_d (f(S')_d - f0(S)_d)^2    pooled = final-LayerNorm state at the first EOS
    loss_embeds = the same with text_embeds (pooled @ text_projection.T)
    loss_hidden = mean over the batch of sum over tokens and d of (last_hidden_state(S') - last_hidden_state0(S))^2
The gradients are of each loss at theta; three AdamW steps (torch.optim.AdamW, lr 1e-3, betas .9/.999, eps 1e-8, weight_decay 1e-4,
on ALL parameters) start at theta, for each loss, with the same batch every step. Evaluation mode; no attention_mask is passed.
"""

import copy

import torch
from common import args, dump
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection
import os


def main():
    cfg, out0 = args()
    for c in cfg["gradients"]:
        out = f"{out0}/{c['name']}"
        os.makedirs(out, exist_ok=True)
        eos_id = c["vocab"] - 1  # the highest id, as CLIP's 49407
        conf = CLIPTextConfig(
            vocab_size=c["vocab"],
            hidden_size=c["width"],
            intermediate_size=c["inter"],
            num_hidden_layers=c["layers"],
            num_attention_heads=c["heads"],
            max_position_embeddings=77,
            hidden_act=c["act"],
            projection_dim=c["proj"],
            bos_token_id=c["vocab"] - 2,
            eos_token_id=c["eos"],
            pad_token_id=1,
        )
        g = torch.Generator().manual_seed(c["seed"])
        m0 = CLIPTextModelWithProjection(conf).eval()
        with torch.no_grad():
            for n, p in m0.named_parameters():
                r = torch.randn(p.shape, generator=g)
                if p.ndim == 1:
                    p.copy_(1 + 0.15 * r if "norm" in n and n.endswith("weight") else 0.1 * r)
                elif "embedding" in n:
                    p.copy_(r * (0.7 if "token" in n else 0.3))
                else:
                    p.copy_(r / p.shape[1] ** 0.5)
        m = copy.deepcopy(m0)
        with torch.no_grad():
            for n, p in m.named_parameters():
                p.add_(0.01 * torch.randn(p.shape, generator=g))
        S = torch.full((c["batch"], c["length"]), eos_id)
        S[:, 0] = c["vocab"] - 2
        for b, n in enumerate(c["lens"]):
            S[b, 1 : n + 1] = torch.randint(0, c["vocab"] - 2, (n,), generator=g)
        A = S.clone()
        for b, n in enumerate(c["lens"]):
            for _ in range(max(1, n // 4)):
                A[b, 1 + int(torch.randint(0, n, (1,), generator=g))] = int(
                    torch.randint(0, c["vocab"] - 2, (1,), generator=g)
                )
        A[-1, c["lens"][-1] + 1] = 7  # an inserted token: the EOS of S' lies one further
        m.save_pretrained(out)
        os.rename(f"{out}/model.safetensors", f"{out}/theta.safetensors")
        save_file(
            {k: v.detach().clone().contiguous() for k, v in m0.state_dict().items()},
            f"{out}/theta0.safetensors",
            metadata={"format": "pt"},
        )

        def feats(mm, ids):
            o = mm.text_model(ids)
            return {
                "pooled": o.pooler_output,
                "embeds": mm.text_projection(o.pooler_output),
                "hidden": o.last_hidden_state,
            }

        def losses(mm, dt=torch.float32):
            with torch.no_grad():
                t = feats(m0.to(dt), S)
            f = feats(mm, A)
            return {k: (f[k] - t[k]).square().flatten(1).sum(1).mean() for k in f}, f, t

        res, info = {"S": S.int(), "S_adv": A.int()}, dict(c, eos_id=eos_id, losses={}, float64_check={}, steps={})
        ls, f, t = losses(m)
        for k in f:
            res[f"f0_S.{k}"], res[f"f_Sadv.{k}"] = t[k], f[k]
        for k in ("pooled", "embeds", "hidden"):
            mm = copy.deepcopy(m)
            l = losses(mm)[0][k]
            info["losses"][k] = float(l)
            l.backward()
            torch.set_default_dtype(torch.float64)  # HF builds its causal mask in the default dtype
            md = copy.deepcopy(m).double()
            ld = losses(md, torch.float64)[0][k]
            ld.backward()
            torch.set_default_dtype(torch.float32)
            m0.float()
            top = max(float(q.grad.abs().max()) for q in md.parameters() if q.grad is not None)
            worst, kb = 0.0, 0.0
            for (n, p), (_, q) in zip(mm.named_parameters(), md.named_parameters()):
                gr = p.grad if p.grad is not None else torch.zeros_like(p)
                if p.grad is None:
                    info.setdefault("no_gradient", {}).setdefault(k, []).append(n)
                res[f"grad.{k}.{n}"] = gr
                if q.grad is not None:
                    if n.endswith(
                        "k_proj.bias"
                    ):  # softmax does not see a shift of all keys: the true gradient is 0, what is left is rounding
                        kb = max(kb, float(gr.abs().max()))
                    else:
                        worst = max(worst, float((gr.double() - q.grad).abs().max()))
            info["float64_check"][k] = {
                "loss": float(ld),
                "largest gradient": top,
                "max|g32-g64|": worst,
                "max|g32| of k_proj.bias (true value 0)": kb,
            }
            mm = copy.deepcopy(m)
            opt = torch.optim.AdamW(mm.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-4)
            tr = []
            for step in range(3):
                l = losses(mm)[0][k]
                tr.append(float(l))
                opt.zero_grad()
                l.backward()
                opt.step()
            tr.append(float(losses(mm)[0][k]))
            torch.set_default_dtype(torch.float64)
            md = copy.deepcopy(m).double()
            opt = torch.optim.AdamW(md.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-4)
            for step in range(3):
                l = losses(md, torch.float64)[0][k]
                opt.zero_grad()
                l.backward()
                opt.step()
            torch.set_default_dtype(torch.float32)
            m0.float()
            dif = {
                n: (p.double() - q).detach().abs().max()
                for (n, p), (_, q) in zip(mm.named_parameters(), md.named_parameters())
            }
            info["float64_check"][k]["after3 max|p32-p64| without k_proj.bias"] = float(
                max(v for n, v in dif.items() if not n.endswith("k_proj.bias"))
            )
            info["float64_check"][k]["after3 max|p32-p64| of k_proj.bias"] = float(
                max(v for n, v in dif.items() if n.endswith("k_proj.bias"))
            )
            info["steps"][k] = {"loss_before_each_step_and_after_the_last": tr}
            for n, p in mm.named_parameters():
                res[f"after3.{k}.{n}"] = p
        save_file({k: v.detach().clone().contiguous() for k, v in res.items()}, f"{out}/reference.safetensors")
        back = load_file(f"{out}/reference.safetensors")
        assert all(torch.isfinite(v.float()).all() for v in back.values())
        dump(info, f"{out}/info.json", indent=1)
        print(c["name"], info["losses"], info["float64_check"], info["steps"], info.get("no_gradient"))


main()
